"""The seven services: one room each, the same file names in all of them. They speak to each other over HTTP only."""

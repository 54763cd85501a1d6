"""The offline reader of controlled English."""

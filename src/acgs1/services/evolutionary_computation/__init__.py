"""Evolutionary computation (port 8006): tunes thresholds of policies from labelled outcomes, under proof."""

"""Formal verification: proof before force."""

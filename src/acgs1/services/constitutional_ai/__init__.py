"""Principles and constitutions: what the people responsible have decided."""

"""Policies on their way into force, and every decision under them."""

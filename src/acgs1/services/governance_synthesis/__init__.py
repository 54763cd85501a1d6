"""Governance synthesis (port 8004): drafts policies from principles and repairs them from counterexamples."""

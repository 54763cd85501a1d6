"""Use cases: the vote, bundles, decisions, approvals."""

"""What policy_governance uses from outside: the kernel, the ledger, the verifier, auth, its own disk."""

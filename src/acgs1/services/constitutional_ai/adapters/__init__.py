"""What constitutional_ai uses from outside: the kernel and policy governance."""

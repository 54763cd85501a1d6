"""What the service needs from outside: the kernel and formal verification."""

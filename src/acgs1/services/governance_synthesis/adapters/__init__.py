"""What the service needs from outside: a grammar and the kernel."""

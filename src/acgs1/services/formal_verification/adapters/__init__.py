"""What the room needs from outside: the kernel and its workers, signatures."""

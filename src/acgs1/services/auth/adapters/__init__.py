"""What auth uses from outside: argon2 and key files."""

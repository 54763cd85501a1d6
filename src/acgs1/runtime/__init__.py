"""Running the system: the supervisor, the first run, backups."""

"""The shared platform of the services: settings, database, web, clients, outbox, telemetry."""

"""People, agents and service accounts: who may act."""

"""Accounts and the rules about them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from acgs1.contracts.auth import Role

TOKEN_LIFETIME = timedelta(minutes=15)
KEY_OVERLAP = timedelta(hours=1)
"""How long a retired key is still published: longer than any token lives."""
ATTEMPT_WINDOW = timedelta(minutes=15)
MAX_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class UserAccount:
    id: str
    username: str
    password_hash: str
    roles: tuple[Role, ...]
    active: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AgentAccount:
    """`secret_hash` is SHA-256: the secret has 256 random bits, so there is nothing to stretch."""

    id: str
    name: str
    description: str
    owner_id: str
    secret_hash: str
    active: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PublishedKey:
    kid: str
    created_at: datetime
    retired_at: datetime | None

    def is_published(self, now: datetime) -> bool:
        """A retired key stays published while tokens that it signed may live."""
        return self.retired_at is None or now - self.retired_at < KEY_OVERLAP

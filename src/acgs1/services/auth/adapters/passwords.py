"""Password hashes: argon2id (RFC 9106), off the event loop."""

import asyncio
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY


class Argon2Passwords:
    """argon2id with the second recommended option of RFC 9106, section 4 (64 MiB, 3 passes). At most two at a time, so that a burst of
    sign-ins cannot take the machine's memory."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._slots = asyncio.Semaphore(2)

    async def hash(self, password: str) -> str:
        async with self._slots:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, password_hash: str | None, password: str) -> bool:
        async with self._slots:
            return await asyncio.to_thread(self._matches, password_hash, password)

    def _matches(self, password_hash: str | None, password: str) -> bool:
        try:
            matched = self._hasher.verify(password_hash or _decoy(self._hasher), password)
        except (VerificationError, InvalidHashError):
            return False
        return matched and password_hash is not None


@cache
def _decoy(hasher: PasswordHasher) -> str:
    return hasher.hash("nobody has this password")

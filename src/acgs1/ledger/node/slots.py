"""Slots: the node's time. A slot is 400 ms; the clock sysvar and the blockhashes are functions of the slot alone,
so that a restart finds the same clock and the same valid blockhashes without having stored either.
"""

import hashlib
from datetime import datetime
from typing import Final

from acgs1.core.clock import Clock

SLOT_MS: Final = 400
SLOTS_PER_EPOCH: Final = 432_000
# A blockhash is accepted for 150 slots after its own (MAX_PROCESSING_AGE in solana-sdk).
MAX_PROCESSING_AGE: Final = 150


class SlotClock:
    """Slot numbers from a clock that is given.

    INVARIANT: `current()` never goes backwards, also when the machine's clock does, and never below `floor`.
    """

    def __init__(self, clock: Clock, genesis_ms: int, seed: bytes, floor: int = 0) -> None:
        self._clock = clock
        self._genesis_ms = genesis_ms
        self._seed = seed
        self._last = floor
        self._hashes: dict[bytes, int] = {}
        self._hashed_to = -1

    def current(self) -> int:
        elapsed = unix_ms(self._clock.now()) - self._genesis_ms
        self._last = max(self._last, elapsed // SLOT_MS)
        return self._last

    def unix_time(self, slot: int) -> int:
        """Unix seconds at which `slot` begins: what the clock sysvar and getBlockTime say."""
        return (self._genesis_ms + slot * SLOT_MS) // 1000

    def seconds_to_next(self) -> float:
        """Seconds until the next slot begins; at least a millisecond."""
        into = (unix_ms(self._clock.now()) - self._genesis_ms) % SLOT_MS
        return max(SLOT_MS - into, 1) / 1000

    def blockhash(self, slot: int) -> bytes:
        """The blockhash of `slot`. Nobody without the node's seed can tell a later one in advance."""
        return hashlib.sha256(self._seed + slot.to_bytes(8, "little")).digest()

    def slot_of(self, blockhash: bytes, now: int) -> int | None:
        """The slot of a blockhash that is still valid at slot `now`, else None."""
        oldest = max(0, now - MAX_PROCESSING_AGE)
        for slot in range(max(self._hashed_to + 1, oldest), now + 1):
            self._hashes[self.blockhash(slot)] = slot
        self._hashed_to = max(self._hashed_to, now)
        if len(self._hashes) > 4 * MAX_PROCESSING_AGE:
            self._hashes = {h: s for h, s in self._hashes.items() if s >= oldest}
        slot = self._hashes.get(blockhash)
        return slot if slot is not None and oldest <= slot <= now else None


def unix_ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)

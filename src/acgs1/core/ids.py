"""Identifiers: UUIDv7 (RFC 9562, section 5.7) behind a type prefix, e.g. `dec_0198c5a2-...`."""

import os
import threading
import time
import uuid

_lock = threading.Lock()
_newest = [0]


def uuid7() -> uuid.UUID:
    """A UUIDv7 (see `_uuid7`)."""
    return uuid.UUID(int=_uuid7())


def _uuid7() -> int:
    """A UUIDv7 whose order follows creation within this process, even inside one millisecond.

    The 12 bits of rand_a hold the sub-millisecond fraction (RFC 9562, section 6.2, method 3); when
    the clock stands still or steps back, the value is advanced by one so that order is kept.
    """
    nanoseconds = time.time_ns()
    stamp = (nanoseconds // 1_000_000 << 12) | (nanoseconds % 1_000_000 * 4096 // 1_000_000)
    with _lock:
        stamp = max(stamp, _newest[0] + 1)
        _newest[0] = stamp
    value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62
    return value | int.from_bytes(os.urandom(8)) >> 2


def new_id(prefix: str) -> str:
    """A fresh identifier `<prefix>_<uuidv7>`."""
    # As str(UUID) writes it, without making one: several ids go into every request.
    digits = f"{_uuid7():032x}"
    return f"{prefix}_{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def is_id(value: str, prefix: str) -> bool:
    """Whether `value` is a well-formed identifier of the type that `prefix` names."""
    head, _, tail = value.partition("_")
    if head != prefix:
        return False
    try:
        return str(uuid.UUID(tail)) == tail
    except ValueError:
        return False

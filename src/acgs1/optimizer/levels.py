"""What a shared cache level is: a store that several processes read and write, with a feed of invalidations.

INVARIANT (no stale record outlives an invalidation): a record carries the level's *position* at the moment its
computation began; an invalidation gives its scopes a new, higher position. A record is valid only while none of its
scopes has moved past it, and the level checks that on every read. A process that learns of an invalidation late can
therefore write a record that nobody will read, but never one that hides the change.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from acgs1.core.canonical import canonical_json
from acgs1.core.hashing import sha256_hex

EVERYTHING: Final = "*"
"""The scope that all records share."""

LONGEST_SECONDS: Final = 86_400.0
"""No shared record lives longer; levels may forget the position of a scope after this."""


@dataclass(frozen=True, slots=True)
class Record:
    """One cached value as the shared levels keep it. Instants are seconds since the Unix epoch."""

    payload: bytes
    created: float
    expires: float
    stale_until: float
    load_seconds: float
    position: int
    fence: int = 0
    """The claim under which it was computed: of two records the one with the higher fence stays. 0: no claim."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a level holds of one operation."""

    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What a level holds of one service, by operation, and how many values have lost their room there, of whatever service."""

    held: dict[str, Held]
    evictions: int


class SharedLevel(Protocol):
    """A cache level outside the process. Methods raise whatever the store raises; the cache turns that into a miss."""

    @property
    def name(self) -> str:
        """`redis` or `database`: the label of its metrics and of its circuit breaker."""
        ...

    @property
    def timeout(self) -> float:
        """Seconds after which a call to it counts as failed."""
        ...

    @property
    def position(self) -> int:
        """The newest invalidation that this process knows of."""
        ...

    async def start(self, heard: Callable[[str], None], lost_track: Callable[[], None]) -> None:
        """Begin to follow the feed: `heard(scope)` for each invalidation by anybody, `lost_track()` when some may have
        been missed. Returns when the level answers; raises when it does not."""
        ...

    async def close(self) -> None: ...

    async def ping(self) -> None: ...

    async def read(self, key: str, scopes: Sequence[str]) -> Record | None:
        """The valid record of `key`, expired or not; None when there is none up to its `stale_until`."""
        ...

    async def write(self, records: Sequence[tuple[str, Record]]) -> None: ...

    async def invalidate(self, scopes: Sequence[str]) -> None:
        """Make every record that has one of `scopes` invalid, here and in whoever follows the feed."""
        ...

    async def sample(self, service: str) -> Sample | None:
        """What it holds now; None when that is not known yet. Asked now and then, so it may cost as much as a few reads."""
        ...

    async def claim(self, key: str, seconds: float) -> int | None:
        """The right to compute `key` for `seconds`: a fencing number, higher than any before it; 0 when the level does not
        arbitrate; None while another process has it."""
        ...

    async def release(self, key: str, fence: int) -> None: ...


def cache_key(service: str, operation: str, version: str | None, params: object) -> str:
    """The identity of a cached value: its service and operation, and SHA-256 over the canonical JSON of all that it depends on.

    Raises acgs1.core.canonical.CanonicalError for params that have no JSON form.
    """
    return f"{service}:{operation}:{sha256_hex(canonical_json([service, operation, version, params]))}"


def name_of(key: str) -> tuple[str, str]:
    """The service and operation of a `cache_key`."""
    service, _, operation = key.rpartition(":")[0].partition(":")
    return service, operation


@lru_cache(maxsize=4096)
def scopes_of(service: str, operation: str, tags: tuple[str, ...]) -> tuple[str, ...]:
    """Every scope whose invalidation reaches a value of this service, operation and tags."""
    scopes = [EVERYTHING, scope(service), scope(service, operation)]
    for tag in tags:
        scopes += [scope(tag=tag), scope(service, tag=tag), scope(service, operation, tag)]
    return tuple(scopes)


def scope(service: str | None = None, operation: str | None = None, tag: str | None = None) -> str:
    """The scope of all values that match each part that is given. Raises ValueError for an operation without service."""
    if operation is not None and service is None:
        raise ValueError(f"operation `{operation}` needs the service that it belongs to")
    for part in (service, operation, tag):
        if part is not None and ("\n" in part or not part):
            raise ValueError(f"a service, operation or tag is a non-empty single line, not {part!r}")
    if service is None and tag is None:
        return EVERYTHING
    return "\t".join((service or "", operation or "", tag or ""))

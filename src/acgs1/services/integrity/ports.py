"""What the use cases need from outside."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from acgs1.contracts.events import Event
from acgs1.contracts.integrity import Anchor, AnchorRecord, Appeal
from acgs1.core.merkle import TileId, TreeHead
from acgs1.services.integrity.domain import Leaf

T = TypeVar("T")


class Reads(Protocol):
    """Answers that are asked for again and again."""

    async def get(self, operation: str, params: object, compute: Callable[[], Awaitable[T]]) -> T:
        """The answer kept for these parameters, or what `compute` returns. An error is raised and never kept."""
        ...


class TileMemory(Protocol):
    """Tiles that are remembered, as many as there is room for."""

    def __contains__(self, tile: TileId, /) -> bool: ...

    def __getitem__(self, tile: TileId, /) -> bytes: ...

    def __setitem__(self, tile: TileId, hashes: bytes, /) -> None: ...


class ConcurrentAppend(Exception):
    """Another writer has appended in the meantime; the head in memory is stale."""


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A checkpoint as kept."""

    head: TreeHead
    note: str
    signed_at: datetime


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """What a list of entries is narrowed to; None means any. The time is that of the event: `since` <= time < `until`."""

    type: str | None = None
    service: str | None = None
    subject: str | None = None
    actor: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredLeaf:
    """A row of the entries as it stands, before anything of it is believed."""

    index: int
    event_id: str
    hash: bytes
    content: bytes
    type: str
    service: str
    actor: str
    subject: str
    time: datetime


@dataclass(frozen=True, slots=True)
class AppealRecord:
    """An appeal with the salts of its commitments."""

    appeal: Appeal
    grounds_salt: bytes
    reason_salt: bytes | None = None


class Records(Protocol):
    """The log's tables, inside one transaction."""

    async def head(self) -> SignedHead | None:
        """The newest checkpoint; None before the log was begun."""
        ...

    async def checkpoint(self, size: int) -> SignedHead | None: ...
    async def checkpoints(self, cursor: str | None, limit: int) -> tuple[list[SignedHead], str | None]: ...
    async def checkpoints_from(self, size: int, limit: int) -> list[SignedHead]:
        """The checkpoints of at least `size` leaves, smallest first."""
        ...

    async def add_checkpoint(self, checkpoint: SignedHead) -> None:
        """Raises ConcurrentAppend when a checkpoint of that size exists."""
        ...

    async def tiles(self, ids: Iterable[TileId]) -> dict[TileId, bytes]: ...
    async def count_tiles(self) -> int: ...
    async def put_tiles(self, tiles: Mapping[TileId, bytes]) -> None: ...
    async def add_leaves(self, leaves: Sequence[Leaf]) -> None:
        """Raises ConcurrentAppend when a place or an event id is taken."""
        ...

    async def known(self, event_ids: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        """Index and content of the leaves of those events that are in the log."""
        ...

    async def leaf(self, event_id: str) -> Leaf | None: ...
    async def leaf_at(self, index: int) -> Leaf | None: ...
    async def leaves(self, wanted: EntryFilter, cursor: str | None, limit: int) -> tuple[list[Leaf], str | None]: ...
    async def stored_leaves(self, start: int, limit: int) -> list[StoredLeaf]:
        """The rows from leaf `start` on, in order of index."""
        ...

    async def add_anchor(self, anchor: AnchorRecord) -> None:
        """Keep `anchor`, unless one of that size is kept already."""
        ...

    async def covering_anchor(self, index: int) -> AnchorRecord | None:
        """The first anchor whose tree holds leaf `index`."""
        ...

    async def last_anchor(self) -> AnchorRecord | None: ...
    async def anchors(self, cursor: str | None, limit: int) -> tuple[list[AnchorRecord], str | None]: ...
    async def add_appeal(self, record: AppealRecord) -> None: ...
    async def appeal(self, appeal_id: str) -> AppealRecord | None: ...
    async def appeals(
        self, subject: str | None, appellant: str | None, cursor: str | None, limit: int
    ) -> tuple[list[AppealRecord], str | None]: ...
    async def close_appeal(self, record: AppealRecord) -> bool:
        """Store the ruling; False when the appeal was not open any more."""
        ...

    async def record(self, event: Event) -> None: ...


class LogStore(Protocol):
    """Transactions over the log."""

    def transaction(self) -> AbstractAsyncContextManager[Records]: ...
    def reading(self) -> AbstractAsyncContextManager[Records]: ...


class CheckpointMemory(Protocol):
    """The last checkpoint that the log key signed, kept apart from the database, so that a database set back to an
    earlier state is noticed."""

    async def recall(self) -> str | None: ...
    async def remember(self, note: str) -> None: ...


@dataclass(frozen=True, slots=True)
class LandedAnchor:
    """An anchor transaction that the ledger has confirmed."""

    anchor: Anchor
    slot: int


class Ledger(Protocol):
    """The log's side of the ledger. Raises DependencyUnavailable when the ledger does not answer or refuses."""

    async def anchored(self) -> TreeHead | None:
        """The newest root on the ledger; None before the first. Raises LedgerNotReady while the program is not initialised."""
        ...

    async def anchor(self, head: TreeHead) -> LandedAnchor:
        """Put `head` on the ledger and wait until that is confirmed. Never lands twice for one size."""
        ...

    async def find(self, head: TreeHead) -> LandedAnchor | None:
        """The transaction that anchored `head`, from the ledger's history."""
        ...

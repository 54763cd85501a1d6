"""The one writer of the log: gives events their places, many at a time, and signs a checkpoint over each batch.

A batch is one transaction: entries, tiles and the signed checkpoint become visible together or not at all, and nothing is
acknowledged before. A crash at any point leaves a log that verifies; what was not acknowledged is sent again and
recognised by its event id.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from acgs1.contracts.events import Event, Receipt
from acgs1.core.clock import Clock, parse_instant
from acgs1.core.errors import DomainError, ErrorItem
from acgs1.core.merkle import (
    EMPTY_ROOT,
    TILE_WIDTH,
    MerkleError,
    TileId,
    TreeHead,
    edge_tiles,
    evaluate,
    extend,
    leaf_hash,
    root_from_tiles,
    root_plan,
    tiles_of,
)
from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.notes import Checkpoint, NoteError, NoteSigner, open_checkpoint, sign_checkpoint
from acgs1.optimizer.batching import GroupCommit
from acgs1.services.integrity.domain import Leaf, encode_event, make_leaf, records_event
from acgs1.services.integrity.errors import EventConflict, LogHalted
from acgs1.services.integrity.ports import CheckpointMemory, ConcurrentAppend, LogStore, Records, SignedHead

_log = structlog.get_logger()

_ATTEMPTS = 5
_INLINE = 16
_Submission = list[tuple[Event, bytes]]
_Outcome = list[Receipt] | Exception


@dataclass(frozen=True, slots=True)
class _Tree:
    """The log as this process last committed or read it. `edge` holds the tiles of `edge_tiles(head.size)`."""

    signed: SignedHead
    edge: dict[TileId, bytes]
    last_logged_at: datetime

    @property
    def head(self) -> TreeHead:
        return self.signed.head


class Sequencer:
    """Appends in groups. `start` before use, `close` when done.

    INVARIANT: a checkpoint is signed only over a tree that was verified against the newest checkpoint, and extends it.
    """

    def __init__(
        self,
        store: LogStore,
        signer: NoteSigner,
        memory: CheckpointMemory,
        clock: Clock,
    ) -> None:
        self._store = store
        self._signer = signer
        self._memory = memory
        self._clock = clock
        self._tree: _Tree | None = None
        self._halted: str | None = None
        self._commits: GroupCommit[_Submission, _Outcome] = GroupCommit(
            self._flush, name="log-append", max_batch=256, max_pending=4096
        )

    @property
    def halted(self) -> str | None:
        """Why the log signs nothing more; None while all is well."""
        return self._halted

    @property
    def newest(self) -> tuple[SignedHead, Mapping[TileId, bytes]] | None:
        """The newest checkpoint that this process committed or verified, and the tiles on the edge of its tree.

        None while it is not known. Another process may have signed newer ones.
        """
        return (self._tree.signed, self._tree.edge) if self._tree is not None else None

    def halt(self, reason: str) -> None:
        """Sign nothing more until the process is started anew (and finds the cause gone)."""
        if self._halted is None:
            _log.error("log_halted", reason=reason)
            self._halted = reason

    async def check(self) -> None:
        """For `/health`: raises LogHalted when the log signs nothing more."""
        if self._halted is not None:
            raise LogHalted(self._halted)

    async def start(self) -> None:
        """Begin the log, or verify what is stored. A contradiction halts the log: what is there stays readable."""
        try:
            # Another process may begin the same log at once; then its beginning is read.
            with suppress(ConcurrentAppend):
                remembered = await self._memory.recall()
                async with self._store.transaction() as records:
                    if await records.head() is None:
                        await self._begin(records, remembered)
            await self._load()
        except LogHalted as error:
            _log.error("log_not_started", reason=error.detail)

    async def append(self, events: Sequence[Event]) -> list[Receipt]:
        """Log `events`, in order; returns once they are durable under a signed checkpoint.

        All or none: raises EventConflict when an id is known with other content, EventNotLoggable when one cannot be a
        leaf, LogHalted, BatchFull when too many wait, DependencyUnavailable when the database fails.
        """
        if len(events) > _INLINE:
            # Canonical JSON of many events takes tens of milliseconds, for which the event loop should not stand still.
            submission = await asyncio.to_thread(_encode, events)
        else:
            submission = _encode(events)
        outcome = await self._commits.submit(submission)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self) -> None:
        await self._commits.close()

    # --- one batch ---

    async def _flush(self, submissions: list[_Submission]) -> list[_Outcome]:
        for _ in range(_ATTEMPTS):
            if self._halted is not None:
                raise LogHalted(self._halted)
            try:
                tree = self._tree or await self._load()
                outcomes, grown = await self._commit(tree, submissions)
                if grown is not None:
                    await self._memory.remember(grown.signed.note)
                    self._tree = grown
            except ConcurrentAppend:
                self._tree = None
            except DomainError:
                self._tree = None
                raise
            except Exception as error:
                # Whether the transaction took effect is unknown; the next batch reads and verifies what is there.
                self._tree = None
                _log.error("append_failed", exc_info=error)
                raise DependencyUnavailable(f"the log could not be written: {type(error).__name__}") from error
            else:
                return outcomes
        raise DependencyUnavailable("other writers kept changing the log; try again")

    async def _commit(self, tree: _Tree, submissions: list[_Submission]) -> tuple[list[_Outcome], _Tree | None]:
        # INVARIANT: time never goes backwards along the log, whatever the machine's clock does.
        now = max(self._clock.now(), tree.last_logged_at)
        async with self._store.transaction() as records:
            ids = list({event.id: None for events in submissions for event, _ in events})
            known = await records.known(ids)
            leaves: list[Leaf] = []
            outcomes = [_place(events, known, leaves, tree.head.size, now) for events in submissions]
            if not leaves:
                return outcomes, None
            changed = extend(tree.head.size, tree.edge, [leaf.hash for leaf in leaves])
            size = tree.head.size + len(leaves)
            tiles = {**tree.edge, **changed}
            edge = {tile: tiles[tile] for tile in edge_tiles(size)}
            head = TreeHead(size, root_from_tiles(size, edge))
            signed = SignedHead(head, self._sign(head), now)
            await records.add_leaves(leaves)
            await records.put_tiles(changed)
            await records.add_checkpoint(signed)
        return outcomes, _Tree(signed, edge, now)

    def _sign(self, head: TreeHead) -> str:
        return sign_checkpoint(Checkpoint(self._signer.name, head.size, head.root), self._signer)

    # --- begin and recover ---

    async def _begin(self, records: Records, remembered: str | None) -> None:
        if remembered is not None:
            raise self._contradiction(
                "the database is empty, but this log key has signed checkpoints; restore it, or begin a new log with a new key"
            )
        head = TreeHead(0, EMPTY_ROOT)
        await records.add_checkpoint(SignedHead(head, self._sign(head), self._clock.now()))

    async def _load(self) -> _Tree:
        """Read the newest checkpoint and verify that the stored tree is the one it signs, and extends all we remember."""
        # Before the database is read, because another writer may grow both in between: what was remembered was committed before.
        remembered = await self._memory.recall()
        async with self._store.reading() as records:
            stored = await records.head()
            if stored is None:
                raise self._contradiction("the database holds no checkpoint")
            try:
                self._verify_note(stored)
                edge = await self._verify_tiles(records, stored.head)
                last_logged_at = await self._verify_leaves(records, stored.head, edge)
                await self._verify_memory(records, stored.head, remembered)
            except (NoteError, MerkleError) as error:
                raise self._contradiction(str(error)) from error
        self._tree = _Tree(stored, edge, last_logged_at)
        return self._tree

    def _verify_note(self, stored: SignedHead) -> None:
        if open_checkpoint(stored.note, self._signer.verifier).head != stored.head:
            raise self._contradiction("the newest checkpoint's note says another head than its row")

    async def _verify_tiles(self, records: Records, head: TreeHead) -> dict[TileId, bytes]:
        tiles = await records.tiles(edge_tiles(head.size))
        if {tile: len(hashes) // 32 for tile, hashes in tiles.items()} != edge_tiles(head.size):
            raise self._contradiction(f"the tiles on the edge are not those of a tree of {head.size} leaves")
        if root_from_tiles(head.size, tiles) != head.root:
            raise self._contradiction(f"the stored tree of {head.size} leaves has another root than its checkpoint")
        return tiles

    async def _verify_leaves(self, records: Records, head: TreeHead, edge: dict[TileId, bytes]) -> datetime:
        """The leaves of the last tile must be those it hashes, and the last of all leaves."""
        start = (head.size - 1) // TILE_WIDTH * TILE_WIDTH if head.size else 0
        rows = await records.stored_leaves(start, TILE_WIDTH + 1)
        if [row.index for row in rows] != list(range(start, head.size)):
            raise self._contradiction(f"the entries do not end at leaf {head.size - 1}, as the checkpoint says")
        if not rows:
            return datetime.fromtimestamp(0, UTC)
        tile = TileId(0, start // TILE_WIDTH)
        hashes = edge.get(tile) or (await records.tiles([tile])).get(tile)
        if hashes != b"".join(leaf_hash(row.content) for row in rows):
            raise self._contradiction("the newest entries do not hash to the stored tree")
        return parse_instant(json.loads(rows[-1].content)["logged_at"])

    async def _verify_memory(self, records: Records, head: TreeHead, remembered: str | None) -> None:
        if remembered is None:
            return
        seen = open_checkpoint(remembered, self._signer.verifier).head
        if seen.size > head.size:
            raise self._contradiction(
                f"a checkpoint of {seen.size} leaves was signed, but the database ends at {head.size}: it was set back"
            )
        if await root_at(records, seen.size) != seen.root:
            raise self._contradiction(f"the database tells another history than the checkpoint of {seen.size} leaves")

    def _contradiction(self, reason: str) -> LogHalted:
        self.halt(reason)
        return LogHalted(reason)


async def root_at(records: Records, size: int) -> bytes:
    """The root of the first `size` leaves, from tiles; raises MerkleError when the log is smaller."""
    plan = root_plan(size)
    return evaluate(plan, await records.tiles(tiles_of(plan)))[0] if plan else EMPTY_ROOT


def _encode(events: Sequence[Event]) -> _Submission:
    return [(event, encode_event(event)) for event in events]


def _place(
    events: _Submission, known: dict[str, tuple[int, bytes]], leaves: list[Leaf], base: int, now: datetime
) -> _Outcome:
    """Receipts for one submission; appends its new leaves to `leaves` and `known`, or neither when one event is in conflict."""
    conflicts: list[ErrorItem] = []
    receipts: list[Receipt] = []
    fresh: list[Leaf] = []
    ours: dict[str, tuple[int, bytes]] = {}
    for number, (event, encoded) in enumerate(events):
        before = ours.get(event.id) or known.get(event.id)
        if before is None:
            leaf = make_leaf(event, encoded, base + len(leaves) + len(fresh), now)
            fresh.append(leaf)
            ours[event.id] = leaf.index, leaf.content
            receipts.append(Receipt(event_id=event.id, leaf_index=leaf.index, duplicate=False))
        elif records_event(before[1], encoded):
            receipts.append(Receipt(event_id=event.id, leaf_index=before[0], duplicate=True))
        else:
            detail = f"`{event.id}` stands in the log at leaf {before[0]} with other content"
            conflicts.append(ErrorItem(detail=detail, pointer=f"/events/{number}"))
    if conflicts:
        return EventConflict(conflicts[0].detail, items=tuple(conflicts))
    leaves.extend(fresh)
    known.update(ours)
    return receipts

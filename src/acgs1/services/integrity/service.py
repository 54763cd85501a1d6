"""Use cases of the log: reading, proving, evidence."""

from collections.abc import Iterable, Mapping, Sequence

from acgs1.contracts.auth import Identity
from acgs1.contracts.common import Page
from acgs1.contracts.events import Event, Receipts
from acgs1.contracts.integrity import (
    AnchorRecord,
    Checkpoint,
    ConsistencyProof,
    Entry,
    EvidenceBundle,
    InclusionProof,
)
from acgs1.core.errors import ErrorItem
from acgs1.core.merkle import (
    HASH_LENGTH,
    TILE_WIDTH,
    MerkleError,
    TileId,
    TreeHead,
    consistency_plan,
    evaluate,
    inclusion_plan,
    tiles_of,
)
from acgs1.kit.errors import DependencyUnavailable, Forbidden
from acgs1.kit.notes import NoteVerifier
from acgs1.services.integrity.anchoring import Anchorer
from acgs1.services.integrity.domain import may_read
from acgs1.services.integrity.errors import (
    CheckpointNotFound,
    EntryNotFound,
    InvalidRange,
    NotAnchored,
    ServiceMismatch,
    TileNotFound,
)
from acgs1.services.integrity.ports import EntryFilter, LogStore, Reads, Records, SignedHead, TileMemory
from acgs1.services.integrity.sequencer import Sequencer, root_at

_Newest = tuple[SignedHead, Mapping[TileId, bytes]]
"""A checkpoint, and what is known of the tiles of its tree."""


class LogService:
    """The log as its callers see it."""

    def __init__(
        self,
        store: LogStore,
        sequencer: Sequencer,
        anchorer: Anchorer,
        verifier: NoteVerifier,
        reads: Reads,
        full_tiles: TileMemory,
        *,
        only_writer: bool,
    ) -> None:
        """`full_tiles` remembers some tiles that are full, which never change. `only_writer`: no other process appends to this log, so
        that the sequencer knows the newest checkpoint."""
        self._store = store
        self._sequencer = sequencer
        self._anchorer = anchorer
        self._reads = reads
        self._only_writer = only_writer
        self._full_tiles = full_tiles
        self._last: _Newest | None = None
        self.verifier = verifier

    @property
    def log_key(self) -> str:
        """The log's verifier key (C2SP vkey)."""
        return self.verifier.vkey

    # --- writing ---

    async def append(self, events: Sequence[Event], by: Identity) -> Receipts:
        """Log the events of a service; raises ServiceMismatch when one is of another service than the caller."""
        foreign = tuple(
            ErrorItem(f"`{event.id}` is of `{event.service}`", f"/events/{number}/service")
            for number, event in enumerate(events)
            if event.service != by.name
        )
        if foreign:
            raise ServiceMismatch(f"`{by.name}` cannot log for another service: {foreign[0].detail}", items=foreign)
        return Receipts(receipts=await self._sequencer.append(events))

    async def anchor_now(self) -> AnchorRecord:
        return await self._anchorer.anchor_now()

    # --- reading ---

    async def entry(self, event_id: str, by: Identity) -> Entry:
        entry = await self._reads.get("entry", {"event_id": event_id}, lambda: self._stored_entry(event_id))
        if not may_read(by, entry.event):
            raise Forbidden(f"`{by.name}` reads only entries of its own acts; auditors read all")
        return entry

    async def entries(self, wanted: EntryFilter, cursor: str | None, limit: int) -> Page[Entry]:
        async with self._store.reading() as records:
            leaves, following = await records.leaves(wanted, cursor, limit)
        return Page[Entry](items=[leaf.entry() for leaf in leaves], next_cursor=following)

    async def checkpoint(self, size: int | None = None) -> Checkpoint:
        """The newest checkpoint, or the one of `size`; raises CheckpointNotFound."""
        if size is None:
            return self._checkpoint((await self._newest())[0])
        async with self._store.reading() as records:
            return self._checkpoint(await _signed(records, size))

    async def checkpoints(self, cursor: str | None, limit: int) -> Page[Checkpoint]:
        async with self._store.reading() as records:
            rows, following = await records.checkpoints(cursor, limit)
        return Page[Checkpoint](items=[self._checkpoint(row) for row in rows], next_cursor=following)

    async def anchors(self, cursor: str | None, limit: int) -> Page[AnchorRecord]:
        async with self._store.reading() as records:
            rows, following = await records.anchors(cursor, limit)
        return Page[AnchorRecord](items=rows, next_cursor=following)

    async def tile(self, tile: TileId, width: int) -> bytes:
        """The first `width` hashes of a tile; raises TileNotFound while it has fewer."""
        async with self._store.reading() as records:
            hashes = (await records.tiles([tile])).get(tile, b"")[: width * HASH_LENGTH]
        if len(hashes) != width * HASH_LENGTH:
            raise TileNotFound(f"tile {tile.number} at level {tile.level} does not have {width} hashes yet")
        return hashes

    async def entry_bundle(self, number: int, width: int) -> bytes:
        """The contents of the leaves under the first `width` hashes of a level-0 tile, each after its length (tlog-tiles)."""
        async with self._store.reading() as records:
            rows = await records.stored_leaves(number * TILE_WIDTH, width)
        # A gap in the indices would come out as another leaf here; the caller's hashes would not match, and neither may ours.
        if [row.index for row in rows] != list(range(number * TILE_WIDTH, number * TILE_WIDTH + width)):
            raise TileNotFound(f"entry bundle {number} does not have {width} entries yet")
        return b"".join(len(row.content).to_bytes(2, "big") + row.content for row in rows)

    # --- proofs ---

    async def inclusion(self, event_id: str, tree_size: int | None, by: Identity) -> InclusionProof:
        """That the event's leaf stands in the tree of a checkpoint: the newest unless `tree_size` names one."""
        entry = await self.entry(event_id, by)
        if tree_size is None:
            return await self._inclusion(entry, *await self._newest())
        async with self._store.reading() as records:
            signed = await _signed(records, tree_size)
        return await self._inclusion(entry, signed, {})

    async def consistency(self, old_size: int, new_size: int | None) -> ConsistencyProof:
        """That the tree of `new_size` leaves (the newest checkpoint's by default) begins with the tree of `old_size`."""
        async with self._store.reading() as records:
            newest = (await _signed(records, None)).head.size
            new_size = newest if new_size is None else new_size
            if not 0 <= old_size <= new_size <= newest:
                raise InvalidRange(
                    f"sizes grow from 0 to {newest}; there is no proof from `{old_size}` to `{new_size}`"
                )
            old = TreeHead(old_size, await root_at(records, old_size))
            return await _consistency(records, old, TreeHead(new_size, await root_at(records, new_size)))

    async def evidence(self, event_id: str, tree_size: int | None, wait: float, by: Identity) -> EvidenceBundle:
        """All that it takes to verify the entry offline. The checkpoint is the one that is anchored, or that of `tree_size`.

        Waits up to `wait` seconds for the entry to be anchored; raises NotAnchored when it is not by then.
        """
        entry = await self.entry(event_id, by)
        async with self._store.reading() as records:
            anchor = await records.covering_anchor(entry.leaf_index)
        if anchor is None and wait > 0:
            anchor = await self._anchorer.wait_for(entry.leaf_index, wait)
        if anchor is None:
            raise NotAnchored(
                f"`{event_id}` is leaf {entry.leaf_index}; ask again with `?wait=30`, or see `ledger` in /health"
            )
        async with self._store.reading() as records:
            signed = await _signed(records, anchor.tree_size if tree_size is None else tree_size)
        proof = await self._inclusion(entry, signed, {})
        async with self._store.reading() as records:
            consistency = None
            anchored = TreeHead(anchor.tree_size, bytes.fromhex(anchor.root_hash))
            if anchored.size != signed.head.size:
                consistency = await _consistency(records, *sorted((anchored, signed.head)))
        return EvidenceBundle(
            entry=entry,
            proof=proof,
            checkpoint=signed.note,
            log_key=self.log_key,
            anchor=anchor.evidence(),
            anchor_consistency=consistency,
        )

    # --- what is kept in memory ---

    async def _stored_entry(self, event_id: str) -> Entry:
        async with self._store.reading() as records:
            leaf = await records.leaf(event_id)
        if leaf is None:
            raise EntryNotFound(f"no entry records the event `{event_id}`; a fresh event may still be on its way")
        return leaf.entry()

    async def _newest(self) -> _Newest:
        """The newest checkpoint; while the database cannot be reached, into which nobody writes then, the newest that was seen here."""
        own = self._sequencer.newest
        if own is not None and self._only_writer:
            return own
        try:
            async with self._store.reading() as records:
                signed = await _signed(records, None)
        except DependencyUnavailable:
            if self._last is None:
                raise
        else:
            self._last = signed, own[1] if own is not None and own[0].head == signed.head else {}
        return self._last

    async def _inclusion(self, entry: Entry, signed: SignedHead, known: Mapping[TileId, bytes]) -> InclusionProof:
        if entry.leaf_index >= signed.head.size:
            raise InvalidRange(
                f"leaf {entry.leaf_index} is not in the tree of {signed.head.size} leaves; ask for a larger one"
            )
        plan = inclusion_plan(entry.leaf_index, signed.head.size)
        hashes = evaluate(plan, await self._tiles(tiles_of(plan), known))
        return InclusionProof(
            leaf_index=entry.leaf_index,
            tree_size=signed.head.size,
            leaf_hash=entry.leaf_hash,
            hashes=[value.hex() for value in hashes],
            checkpoint=signed.note,
        )

    async def _tiles(self, wanted: Iterable[TileId], known: Mapping[TileId, bytes]) -> dict[TileId, bytes]:
        """The tiles, from `known`, from memory, or else from the database."""
        found: dict[TileId, bytes] = {}
        missing: list[TileId] = []
        for tile in wanted:
            if tile in known:
                found[tile] = known[tile]
            elif tile in self._full_tiles:
                found[tile] = self._full_tiles[tile]
            else:
                missing.append(tile)
        if missing:
            async with self._store.reading() as records:
                for tile, hashes in (await records.tiles(missing)).items():
                    found[tile] = hashes
                    if len(hashes) == TILE_WIDTH * HASH_LENGTH:
                        self._full_tiles[tile] = hashes
        return found

    def _checkpoint(self, signed: SignedHead) -> Checkpoint:
        return Checkpoint(
            note=signed.note,
            origin=self.verifier.name,
            tree_size=signed.head.size,
            root_hash=signed.head.root.hex(),
            signed_at=signed.signed_at,
        )


async def _signed(records: Records, size: int | None) -> SignedHead:
    signed = await records.head() if size is None else await records.checkpoint(size)
    if signed is None:
        wanted = "" if size is None else f" of {size} leaves"
        raise CheckpointNotFound(f"there is no checkpoint{wanted}; /api/v1/checkpoints lists them")
    return signed


async def _consistency(records: Records, old: TreeHead, new: TreeHead) -> ConsistencyProof:
    try:
        plan = consistency_plan(old.size, new.size)
    except MerkleError as error:
        raise InvalidRange(str(error)) from error
    hashes = evaluate(plan, await records.tiles(tiles_of(plan)))
    return ConsistencyProof(
        old_size=old.size,
        new_size=new.size,
        hashes=[value.hex() for value in hashes],
        old_root=old.root.hex(),
        new_root=new.root.hex(),
    )

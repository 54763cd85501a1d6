"""An independent audit: recomputes the whole log from its entries and compares that with everything else that is stored.

INVARIANT: shares no tree code with the writer. It hashes for itself and grows the tree one leaf at a time, so that an
error in the writer's tiles or proofs cannot hide here.
"""

import base64
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from acgs1.contracts.integrity import AnchorRecord, Entry
from acgs1.core.canonical import canonical_json
from acgs1.core.merkle import TileId
from acgs1.kit.notes import NoteError, NoteVerifier, open_checkpoint
from acgs1.ledger.anchor_proof import AnchorProofError, verify_anchor_transaction
from acgs1.services.integrity.ports import Records, SignedHead, StoredLeaf

_CHUNK = 500
_MAX_FINDINGS = 100
_WIDTH = 256


@dataclass(slots=True)
class AuditReport:
    """What was looked at, and what is wrong. An audit of nothing finds nothing, so read the counts too."""

    entries: int = 0
    checkpoints: int = 0
    tiles: int = 0
    anchors: int = 0
    root: str = ""
    findings: list[str] = field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        return not self.findings


class _Tree:
    """The Merkle tree by its definition: perfect subtrees merge when two of the same size stand side by side."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[tuple[int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        height, value = 0, leaf
        while self._peaks and self._peaks[-1][0] == height:
            value = _node(self._peaks.pop()[1], value)
            height += 1
        self._peaks.append((height, value))
        self.size += 1

    def root(self) -> bytes:
        if not self._peaks:
            return sha256().digest()
        value = self._peaks[-1][1]
        for _, left in reversed(self._peaks[:-1]):
            value = _node(left, value)
        return value


class _Audit:
    def __init__(self, records: Records, verifier: NoteVerifier) -> None:
        self.report = AuditReport()
        self._records = records
        self._verifier = verifier
        self._tree = _Tree()
        self._rows: dict[int, list[bytes]] = defaultdict(list)
        self._full: dict[int, int] = defaultdict(int)
        self._checkpoints: Iterator[SignedHead] = iter(())
        self._next: SignedHead | None = None
        self._anchors: dict[int, AnchorRecord] = {}
        self._logged_at: datetime | None = None

    async def run(self, remembered: str | None) -> AuditReport:
        await self._read_anchors()
        seen = self._remembered(remembered)
        await self._advance(0)
        await self._at_size(seen)
        while rows := await self._records.stored_leaves(self.report.entries, _CHUNK):
            for row in rows:
                if row.index != self._tree.size:
                    self._find(f"leaf {self._tree.size} is missing; the next entry is leaf {row.index}")
                    return self.report
                try:
                    self._check_leaf(row)
                except TypeError:
                    self._find(f"leaf {row.index} is not stored as bytes")
                    return self.report
                leaf = sha256(b"\x00" + row.content).digest()
                self._tree.add(leaf)
                await self._add_to_tile(0, leaf)
                self.report.entries += 1
                await self._at_size(seen)
        await self._finish(seen)
        return self.report

    async def _finish(self, seen: tuple[int, bytes] | None) -> None:
        self.report.root = self._tree.root().hex()
        for level, row in self._rows.items():
            if row:
                await self._compare_tile(level, row)
        if (stored := await self._records.count_tiles()) != self.report.tiles:
            self._find(f"{stored} tiles are stored; a tree of {self._tree.size} leaves has {self.report.tiles}")
        newest = await self._records.head()
        if newest is None:
            self._find("there is no checkpoint")
        elif newest.head.size != self._tree.size:
            self._find(
                f"the newest checkpoint is of {newest.head.size} leaves, but there are {self._tree.size} entries"
            )
        for size in self._anchors:
            self._find(f"an anchor is of {size} leaves, where no checkpoint was signed")
        if seen is not None and seen[0] > self._tree.size:
            self._find(f"a checkpoint of {seen[0]} leaves was signed, but there are only {self._tree.size} entries")

    # --- entries ---

    def _check_leaf(self, row: StoredLeaf) -> None:
        try:
            digest = sha256(b"\x00" + row.content).digest()
            value = json.loads(row.content)
            canonical = canonical_json(value) == row.content
            entry = Entry.model_validate({"leaf_index": row.index, "leaf_hash": row.hash.hex(), **value})
        except ValueError as error:
            self._find(f"leaf {row.index} does not hold an event: {error}")
            return
        event = entry.event
        if not canonical:
            self._find(f"leaf {row.index} is not in canonical form")
        if digest != row.hash:
            self._find(f"leaf {row.index} has another hash than the one stored with it")
        stored = (row.event_id, row.type, row.service, row.actor, row.subject, row.time)
        if stored != (event.id, event.type, event.service, event.actor, event.subject, event.time):
            self._find(f"leaf {row.index} (`{event.id}`) is listed under fields that are not its event's")
        if self._logged_at is not None and entry.logged_at < self._logged_at:
            self._find(f"leaf {row.index} says that it was logged before leaf {row.index - 1}")
        self._logged_at = entry.logged_at

    # --- tiles ---

    async def _add_to_tile(self, level: int, value: bytes) -> None:
        row = self._rows[level]
        row.append(value)
        if len(row) < _WIDTH:
            return
        await self._compare_tile(level, row)
        self._rows[level] = []
        self._full[level] += 1
        tree = _Tree()
        for item in row:
            tree.add(item)
        await self._add_to_tile(level + 1, tree.root())

    async def _compare_tile(self, level: int, row: list[bytes]) -> None:
        self.report.tiles += 1
        tile = TileId(level, self._full[level])
        if (await self._records.tiles([tile])).get(tile) != b"".join(row):
            self._find(f"tile {tile.number} at level {level} does not hold the {len(row)} hashes that the entries give")

    # --- checkpoints and anchors ---

    async def _advance(self, size: int) -> None:
        """Move to the next checkpoint, which has at least `size` leaves."""
        self._next = next(self._checkpoints, None)
        if self._next is None:
            self._checkpoints = iter(await self._records.checkpoints_from(size, _CHUNK))
            self._next = next(self._checkpoints, None)

    async def _at_size(self, seen: tuple[int, bytes] | None) -> None:
        size = self._tree.size
        if seen is not None and seen[0] == size and seen[1] != self._tree.root():
            self._find(f"the last signed checkpoint of {size} leaves has another root than the entries give")
        if self._next is None or self._next.head.size != size:
            return
        root = self._tree.root()
        self._check_checkpoint(self._next, root)
        if (anchor := self._anchors.pop(size, None)) is not None:
            self._check_anchor(anchor, root)
        await self._advance(size + 1)

    def _check_checkpoint(self, signed: SignedHead, root: bytes) -> None:
        self.report.checkpoints += 1
        size = signed.head.size
        try:
            stated = open_checkpoint(signed.note, self._verifier).head
        except NoteError as error:
            self._find(f"the checkpoint of {size} leaves is not signed by the log: {error}")
            return
        if stated != signed.head:
            self._find(f"the note of the checkpoint of {size} leaves says another head")
        if root != stated.root:
            self._find(f"the checkpoint of {size} leaves has another root than the entries give")

    async def _read_anchors(self) -> None:
        cursor: str | None = None
        while True:
            anchors, cursor = await self._records.anchors(cursor, _CHUNK)
            self._anchors |= {anchor.tree_size: anchor for anchor in anchors}
            if cursor is None:
                return

    def _check_anchor(self, anchor: AnchorRecord, root: bytes) -> None:
        self.report.anchors += 1
        try:
            found = verify_anchor_transaction(base64.b64decode(anchor.transaction), anchor.authority, anchor.program_id)
        except AnchorProofError as error:
            self._find(f"the anchor of {anchor.tree_size} leaves does not verify: {error}")
            return
        stated = (anchor.tree_size, anchor.root_hash, anchor.signature)
        if stated != (found.tree_size, found.root, found.signature) or found.root != root.hex():
            self._find(f"the anchor of {anchor.tree_size} leaves is of another tree")

    def _remembered(self, note: str | None) -> tuple[int, bytes] | None:
        if note is None:
            return None
        try:
            return open_checkpoint(note, self._verifier).head
        except NoteError as error:
            self._find(f"the checkpoint kept beside the log key is not signed by it: {error}")
            return None

    def _find(self, finding: str) -> None:
        if len(self.report.findings) < _MAX_FINDINGS:
            self.report.findings.append(finding)


async def audit(records: Records, verifier: NoteVerifier, remembered: str | None = None) -> AuditReport:
    """Audit the log in one view of it. `remembered` is the last checkpoint that the key signed, from beside the key.

    At most 100 findings are reported. Costs a few hash operations per entry; memory does not grow with the log.
    """
    return await _Audit(records, verifier).run(remembered)


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()

"""All queries of integrity."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from sqlalchemy import Table, func, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from acgs1.contracts.events import Event
from acgs1.contracts.integrity import AnchorRecord, Appeal, Ruling
from acgs1.core.merkle import TileId, TreeHead
from acgs1.kit.db import ids, numbers, page
from acgs1.kit.outbox import Recorder
from acgs1.services.integrity.domain import Leaf
from acgs1.services.integrity.models import AnchorRow, AppealRow, CheckpointRow, EntryRow, TileRow
from acgs1.services.integrity.ports import AppealRecord, ConcurrentAppend, EntryFilter, SignedHead, StoredLeaf

Row = TypeVar("Row")

# SQLite takes at most 32,766 parameters in a statement.
_IDS_PER_QUERY = 500


class IntegrityRepository(Recorder):
    """The log's tables, inside the transaction of its session."""

    # --- checkpoints ---

    async def head(self) -> SignedHead | None:
        statement = select(CheckpointRow).order_by(CheckpointRow.tree_size.desc()).limit(1)
        return _signed(await self.session.scalar(statement))

    async def checkpoint(self, size: int) -> SignedHead | None:
        return _signed(await self.session.get(CheckpointRow, size))

    async def checkpoints(self, cursor: str | None, limit: int) -> tuple[list[SignedHead], str | None]:
        rows, following = await page(
            self.session, select(CheckpointRow), CheckpointRow.tree_size, cursor, limit, numbers
        )
        return [_signed_row(row) for row in rows], following

    async def checkpoints_from(self, size: int, limit: int) -> list[SignedHead]:
        statement = (
            select(CheckpointRow).where(CheckpointRow.tree_size >= size).order_by(CheckpointRow.tree_size).limit(limit)
        )
        return [_signed_row(row) for row in await self.session.scalars(statement)]

    async def add_checkpoint(self, checkpoint: SignedHead) -> None:
        try:
            await self.session.execute(
                insert(CheckpointRow).values(
                    tree_size=checkpoint.head.size,
                    root_hash=checkpoint.head.root,
                    note=checkpoint.note,
                    signed_at=checkpoint.signed_at,
                )
            )
        except IntegrityError as error:
            raise ConcurrentAppend from error

    # --- tiles ---

    async def tiles(self, ids: Iterable[TileId]) -> dict[TileId, bytes]:
        wanted = [tuple(tile) for tile in ids]
        if not wanted:
            return {}
        rows = await self.session.execute(
            select(TileRow.level, TileRow.number, TileRow.hashes).where(
                tuple_(TileRow.level, TileRow.number).in_(wanted)
            )
        )
        return {TileId(row.level, row.number): row.hashes for row in rows}

    async def count_tiles(self) -> int:
        return await self.session.scalar(select(func.count()).select_from(TileRow)) or 0

    async def put_tiles(self, tiles: Mapping[TileId, bytes]) -> None:
        if not tiles:
            return
        statement = self._dialect.insert(TileRow)
        statement = statement.on_conflict_do_update(
            index_elements=[TileRow.level, TileRow.number], set_={"hashes": statement.excluded.hashes}
        )
        rows = [{"level": tile.level, "number": tile.number, "hashes": hashes} for tile, hashes in tiles.items()]
        await self.session.execute(statement, rows)

    # --- entries ---

    async def add_leaves(self, leaves: Sequence[Leaf]) -> None:
        rows = [
            {
                "leaf_index": leaf.index,
                "event_id": leaf.event.id,
                "leaf_hash": leaf.hash,
                "content": leaf.content,
                "type": leaf.event.type,
                "service": leaf.event.service,
                "actor": leaf.event.actor,
                "subject": leaf.event.subject,
                "time": leaf.event.time,
            }
            for leaf in leaves
        ]
        try:
            # Into the table, past the mapper, which would look at every row on its own.
            await self.session.execute(insert(cast("Table", EntryRow.__table__)), rows)
        except IntegrityError as error:
            raise ConcurrentAppend from error

    async def known(self, event_ids: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        found: dict[str, tuple[int, bytes]] = {}
        for start in range(0, len(event_ids), _IDS_PER_QUERY):
            ids = event_ids[start : start + _IDS_PER_QUERY]
            rows = await self.session.execute(
                select(EntryRow.event_id, EntryRow.leaf_index, EntryRow.content).where(EntryRow.event_id.in_(ids))
            )
            found |= {row.event_id: (row.leaf_index, row.content) for row in rows}
        return found

    async def leaf(self, event_id: str) -> Leaf | None:
        return _leaf(await self.session.scalar(select(EntryRow).where(EntryRow.event_id == event_id)))

    async def leaf_at(self, index: int) -> Leaf | None:
        return _leaf(await self.session.get(EntryRow, index))

    async def leaves(self, wanted: EntryFilter, cursor: str | None, limit: int) -> tuple[list[Leaf], str | None]:
        statement = select(EntryRow)
        for column, value in (
            (EntryRow.type, wanted.type),
            (EntryRow.service, wanted.service),
            (EntryRow.subject, wanted.subject),
            (EntryRow.actor, wanted.actor),
        ):
            if value is not None:
                statement = statement.where(column == value)
        if wanted.since is not None:
            statement = statement.where(EntryRow.time >= wanted.since)
        if wanted.until is not None:
            statement = statement.where(EntryRow.time < wanted.until)
        rows, following = await page(self.session, statement, EntryRow.leaf_index, cursor, limit, numbers)
        return [_leaf_row(row) for row in rows], following

    async def stored_leaves(self, start: int, limit: int) -> list[StoredLeaf]:
        statement = select(EntryRow).where(EntryRow.leaf_index >= start).order_by(EntryRow.leaf_index).limit(limit)
        return [
            StoredLeaf(
                row.leaf_index,
                row.event_id,
                row.leaf_hash,
                row.content,
                row.type,
                row.service,
                row.actor,
                row.subject,
                row.time,
            )
            for row in await self.session.scalars(statement)
        ]

    # --- anchors ---

    async def add_anchor(self, anchor: AnchorRecord) -> None:
        statement = self._dialect.insert(AnchorRow).values(
            tree_size=anchor.tree_size,
            root_hash=bytes.fromhex(anchor.root_hash),
            signature=anchor.signature,
            transaction=base64.b64decode(anchor.transaction),
            program_id=anchor.program_id,
            authority=anchor.authority,
            slot=anchor.slot,
            anchored_at=anchor.anchored_at,
        )
        await self.session.execute(statement.on_conflict_do_nothing())

    async def covering_anchor(self, index: int) -> AnchorRecord | None:
        statement = select(AnchorRow).where(AnchorRow.tree_size > index).order_by(AnchorRow.tree_size).limit(1)
        return _anchor(await self.session.scalar(statement))

    async def last_anchor(self) -> AnchorRecord | None:
        return _anchor(await self.session.scalar(select(AnchorRow).order_by(AnchorRow.tree_size.desc()).limit(1)))

    async def anchors(self, cursor: str | None, limit: int) -> tuple[list[AnchorRecord], str | None]:
        rows, following = await page(self.session, select(AnchorRow), AnchorRow.tree_size, cursor, limit, numbers)
        return [_anchor_row(row) for row in rows], following

    # --- appeals ---

    async def add_appeal(self, record: AppealRecord) -> None:
        appeal = record.appeal
        self.session.add(
            AppealRow(
                id=appeal.id,
                subject=appeal.subject,
                grounds=appeal.grounds,
                grounds_salt=record.grounds_salt,
                appellant=appeal.appellant,
                status=appeal.status,
                created_at=appeal.created_at,
            )
        )
        await self.session.flush()

    async def appeal(self, appeal_id: str) -> AppealRecord | None:
        row = await self.session.get(AppealRow, appeal_id)
        return _appeal(row) if row is not None else None

    async def appeals(
        self, subject: str | None, appellant: str | None, cursor: str | None, limit: int
    ) -> tuple[list[AppealRecord], str | None]:
        statement = select(AppealRow)
        if subject is not None:
            statement = statement.where(AppealRow.subject == subject)
        if appellant is not None:
            statement = statement.where(AppealRow.appellant == appellant)
        rows, following = await page(self.session, statement, AppealRow.id, cursor, limit, ids("apl"))
        return [_appeal(row) for row in rows], following

    async def close_appeal(self, record: AppealRecord) -> bool:
        appeal = record.appeal
        result = await self.session.execute(
            update(AppealRow)
            .where(AppealRow.id == appeal.id, AppealRow.status == "open")
            .values(
                status=appeal.status,
                reason=appeal.ruling and appeal.ruling.reason,
                reason_salt=record.reason_salt,
                ruled_by=appeal.ruled_by,
                ruled_at=appeal.ruled_at,
            )
            .returning(AppealRow.id)
        )
        return result.scalar_one_or_none() is not None

    @property
    def _dialect(self) -> Any:
        """The module whose `insert` knows ON CONFLICT; both spell it the same."""
        return postgresql if self.session.get_bind().dialect.name == "postgresql" else sqlite


def _signed(row: CheckpointRow | None) -> SignedHead | None:
    return _signed_row(row) if row is not None else None


def _signed_row(row: CheckpointRow) -> SignedHead:
    return SignedHead(TreeHead(row.tree_size, row.root_hash), row.note, row.signed_at)


def _leaf(row: EntryRow | None) -> Leaf | None:
    return _leaf_row(row) if row is not None else None


def _leaf_row(row: EntryRow) -> Leaf:
    return Leaf(row.leaf_index, row.leaf_hash, row.content, Event.model_validate(json.loads(row.content)["event"]))


def _anchor(row: AnchorRow | None) -> AnchorRecord | None:
    return _anchor_row(row) if row is not None else None


def _anchor_row(row: AnchorRow) -> AnchorRecord:
    return AnchorRecord(
        tree_size=row.tree_size,
        root_hash=row.root_hash.hex(),
        signature=row.signature,
        transaction=base64.b64encode(row.transaction).decode(),
        program_id=row.program_id,
        authority=row.authority,
        slot=row.slot,
        anchored_at=row.anchored_at,
    )


def _appeal(row: AppealRow) -> AppealRecord:
    ruling: Ruling | None = None
    created_at: datetime = row.created_at
    if row.status != "open":
        ruling = Ruling.model_validate({"outcome": row.status, "reason": row.reason})
    appeal = Appeal.model_validate(
        {
            "id": row.id,
            "subject": row.subject,
            "grounds": row.grounds,
            "appellant": row.appellant,
            "status": row.status,
            "ruling": ruling,
            "ruled_by": row.ruled_by,
            "created_at": created_at,
            "ruled_at": row.ruled_at,
        }
    )
    return AppealRecord(appeal, row.grounds_salt, row.reason_salt)

"""The outbox: a service's events, written with the change that made them true, then delivered to the log until acknowledged."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from acgs1.contracts.events import Event
from acgs1.core.canonical import canonical_json
from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.kit.db import RECORDED, Database, Instant, Json, RawJson, metadata
from acgs1.kit.reporting import workflow_runs
from acgs1.kit.telemetry import OUTBOX_PENDING

_log = structlog.get_logger()

OUTBOX = sa.Table(
    "outbox",
    metadata(),
    sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.String(80), nullable=False, unique=True),
    sa.Column("event", Json, nullable=False),
    sa.Column("recorded_at", Instant(), nullable=False),
)

Deliver = Callable[[list[str]], Awaitable[None]]
"""Hands events (each as JSON) to the log; returns once all are durable there; raises DomainError when they may not be."""

# Gathers what is recorded in quick succession into one delivery.
_GATHER_SECONDS = 0.02


class Recorder:
    """Base of repositories: `record` puts an event into the outbox of the transaction at hand."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def record(self, event: Event) -> None:
        await self.record_all([event])

    async def record_all(self, events: Sequence[Event]) -> None:
        """Raises ValueError for an event that the log could never take: better here, in the sender's transaction, than when
        everything behind it waits in the outbox."""
        rows = [
            {
                "event_id": event.id,
                "event": RawJson(canonical_json(event.model_dump(mode="json")).decode()),
                "recorded_at": event.time,
            }
            for event in events
        ]
        await self.session.execute(OUTBOX.insert(), rows)
        if events:
            self.session.info.setdefault(RECORDED, f"{events[0].type} {events[0].subject}")


class OutboxRelay:
    """Delivers the outbox in order. An event leaves the table only after the log has acknowledged it, so a crash at any point
    delivers it again, and the log deduplicates by event id."""

    def __init__(
        self,
        service: str,
        database: Database,
        deliver: Deliver,
        clock: Clock,
        *,
        batch: int = 200,
        idle_seconds: float = 1.0,
        most_seconds: float = 15.0,
    ) -> None:
        self._service = service
        self._database = database
        self._deliver = deliver
        self._clock = clock
        self._batch = batch
        self._idle = idle_seconds
        self._most = most_seconds
        self._first_pause = min(0.25, most_seconds)
        self._workflow = f"{service}-outbox"

    async def run(self) -> None:
        """Deliver for ever: what this process recorded at once, what another one did within `idle_seconds`. While the log is away the
        pause between tries doubles, up to `most_seconds`."""
        pause = self._first_pause
        while True:
            recorded = self._database.recorded
            recorded.clear()
            try:
                if await self.deliver_once() == self._batch:
                    continue
            except DomainError as error:
                _log.warning("outbox_delivery_failed", code=error.code, detail=error.detail)
                workflow_runs().started("audit_transparency", self._workflow)
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._most)
                continue
            pause = self._first_pause
            with suppress(TimeoutError):
                await asyncio.wait_for(recorded.wait(), self._idle)
                await asyncio.sleep(_GATHER_SECONDS)

    async def deliver_once(self) -> int:
        """Deliver one batch and return how many events it held."""
        async with self._database.reading() as session:
            rows = (
                await session.execute(
                    sa.select(OUTBOX.c.sequence, OUTBOX.c.recorded_at, sa.cast(OUTBOX.c.event, sa.Text).label("event"))
                    .order_by(OUTBOX.c.sequence)
                    .limit(self._batch)
                )
            ).all()
        OUTBOX_PENDING.labels(self._service).set(len(rows))
        if not rows:
            return 0
        await self._deliver([row.event for row in rows])
        # One run per batch, as late as its oldest event: how long until what happened stood in the log.
        waited = (self._clock.now() - rows[0].recorded_at).total_seconds()
        workflow_runs().finished("audit_transparency", waited, workflow_id=self._workflow)
        async with self._database.transaction() as session:
            await session.execute(OUTBOX.delete().where(OUTBOX.c.sequence.in_([row.sequence for row in rows])))
        return len(rows)

    async def oldest(self) -> datetime | None:
        """When the oldest undelivered event was recorded; None when all are delivered."""
        async with self._database.reading() as session:
            return await session.scalar(sa.select(sa.func.min(OUTBOX.c.recorded_at, type_=Instant())))

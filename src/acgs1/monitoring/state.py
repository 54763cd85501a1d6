"""What the monitor must not forget over a restart: alerts with who looks after them and who has yet to hear of them, silences, orders to
breakers, running workflows."""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from acgs1.core.clock import Clock
from acgs1.kit.db import Database, Instant, Json
from acgs1.monitoring.alerts import Alert, Silence
from acgs1.monitoring.slo import Severity

_tables = sa.MetaData()

ALERTS = sa.Table(
    "alert",
    _tables,
    sa.Column("id", sa.String(60), primary_key=True),
    sa.Column("name", sa.String(80)),
    sa.Column("target", sa.String(200)),
    sa.Column("severity", sa.String(16)),
    sa.Column("summary", sa.Text()),
    sa.Column("runbook", sa.String(200)),
    sa.Column("evidence", Json),
    sa.Column("started_at", Instant()),
    sa.Column("updated_at", Instant()),
    sa.Column("notified_at", Instant()),
    sa.Column("resolved_at", Instant()),
    sa.Column("escalated", sa.Boolean()),
    sa.Column("occurrences", sa.Integer()),
    sa.Column("acknowledged_at", Instant()),
    sa.Column("acknowledged_by", sa.String(80)),
)
SILENCES = sa.Table(
    "silence",
    _tables,
    sa.Column("id", sa.String(60), primary_key=True),
    sa.Column("name", sa.String(80)),
    sa.Column("target", sa.String(200)),
    sa.Column("until", Instant()),
    sa.Column("reason", sa.String(400)),
    sa.Column("by", sa.String(80)),
)
ORDERS = sa.Table(
    "breaker_order",
    _tables,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("id", sa.String(60)),
    sa.Column("reason", sa.String(400)),
    sa.Column("by", sa.String(80)),
    sa.Column("at", Instant()),
)
RUNNING = sa.Table(
    "workflow_running",
    _tables,
    sa.Column("workflow_type", sa.String(64), primary_key=True),
    sa.Column("workflow_id", sa.String(80), primary_key=True),
    sa.Column("since", Instant()),
)

DELIVERIES = sa.Table(
    "alert_delivery",
    _tables,
    sa.Column("sink", sa.String(80), primary_key=True),
    sa.Column("alert_id", sa.String(60), primary_key=True),
)

_RESOLVED_KEPT: Final = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class BreakerOrder:
    """A breaker is to stay open until the order is taken back."""

    name: str
    id: str
    reason: str
    by: str
    at: datetime


class State:
    """Reads and writes of that part of the monitor's database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def save_alerts(
        self, alerts: list[Alert], *, owed: set[tuple[str, str]], delivered: set[tuple[str, str]]
    ) -> None:
        """Store each as it is now, and with it (sink, alert id) of what is still to be told and of what no longer is."""
        async with self._database.transaction() as session:
            for alert in alerts:
                values = {**_fields(alert), "severity": str(alert.severity)}
                await session.execute(ALERTS.delete().where(ALERTS.c.id == alert.id))
                await session.execute(ALERTS.insert().values(**values))
            for sink, alert_id in sorted(owed | delivered):
                is_it = (DELIVERIES.c.sink == sink) & (DELIVERIES.c.alert_id == alert_id)
                await session.execute(DELIVERIES.delete().where(is_it))
            for sink, alert_id in sorted(owed):
                await session.execute(DELIVERIES.insert().values(sink=sink, alert_id=alert_id))

    async def deliveries(self) -> list[tuple[str, Alert]]:
        """(sink, alert as it is now) of what is still to be told, oldest first."""
        query = (
            sa.select(DELIVERIES.c.sink, ALERTS)
            .join(ALERTS, ALERTS.c.id == DELIVERIES.c.alert_id)
            .order_by(ALERTS.c.started_at)
        )
        async with self._database.reading() as session:
            rows = [dict(row) for row in (await session.execute(query)).mappings()]
        return [(row.pop("sink"), _alert(row)) for row in rows]

    async def alerts(self, resolved: int) -> list[Alert]:
        """What fires, and the last `resolved` that did; oldest first."""
        fires = sa.select(ALERTS).where(ALERTS.c.resolved_at.is_(None)).order_by(ALERTS.c.started_at)
        did = (
            sa.select(ALERTS)
            .where(ALERTS.c.resolved_at.is_not(None))
            .order_by(ALERTS.c.resolved_at.desc())
            .limit(resolved)
        )
        async with self._database.reading() as session:
            rows = [
                *reversed((await session.execute(did)).mappings().all()),
                *(await session.execute(fires)).mappings(),
            ]
        return [_alert(dict(row)) for row in rows]

    async def save_silence(self, silence: Silence) -> None:
        async with self._database.transaction() as session:
            await session.execute(SILENCES.insert().values(**_fields(silence)))

    async def end_silence(self, silence_id: str) -> None:
        async with self._database.transaction() as session:
            await session.execute(SILENCES.delete().where(SILENCES.c.id == silence_id))

    async def silences(self) -> list[Silence]:
        """Those that are in force."""
        query = sa.select(SILENCES).where(SILENCES.c.until > self._clock.now())
        async with self._database.reading() as session:
            return [Silence(**row) for row in (await session.execute(query)).mappings()]

    async def order(self, order: BreakerOrder) -> None:
        """Replaces an earlier order of the same name."""
        async with self._database.transaction() as session:
            await session.execute(ORDERS.delete().where(ORDERS.c.name == order.name))
            await session.execute(ORDERS.insert().values(**_fields(order)))

    async def take_back(self, name: str) -> None:
        async with self._database.transaction() as session:
            await session.execute(ORDERS.delete().where(ORDERS.c.name == name))

    async def orders(self) -> list[BreakerOrder]:
        async with self._database.reading() as session:
            return [BreakerOrder(**row) for row in (await session.execute(sa.select(ORDERS))).mappings()]

    async def runs_changed(self, started: list[tuple[str, str, datetime]], ended: list[tuple[str, str]]) -> None:
        """(workflow type, id, since) began; (workflow type, id) ended. Repeating a beginning changes nothing."""
        if not started and not ended:
            return
        async with self._database.transaction() as session:
            for workflow_type, workflow_id, since in started:
                is_it = (RUNNING.c.workflow_type == workflow_type) & (RUNNING.c.workflow_id == workflow_id)
                if (await session.execute(sa.select(RUNNING.c.since).where(is_it))).one_or_none() is None:
                    await session.execute(
                        RUNNING.insert().values(workflow_type=workflow_type, workflow_id=workflow_id, since=since)
                    )
            for workflow_type, workflow_id in ended:
                await session.execute(
                    RUNNING.delete().where(
                        RUNNING.c.workflow_type == workflow_type, RUNNING.c.workflow_id == workflow_id
                    )
                )

    async def running(self) -> list[tuple[str, str, datetime]]:
        """(workflow type, id, since) of each run that has not been heard to end."""
        async with self._database.reading() as session:
            return [(r.workflow_type, r.workflow_id, r.since) for r in await session.execute(sa.select(RUNNING))]

    async def prune(self) -> None:
        """Drop what has been kept long enough."""
        now = self._clock.now()
        async with self._database.transaction() as session:
            await session.execute(ALERTS.delete().where(ALERTS.c.resolved_at < now - _RESOLVED_KEPT))
            await session.execute(SILENCES.delete().where(SILENCES.c.until < now))
            await session.execute(DELIVERIES.delete().where(DELIVERIES.c.alert_id.not_in(sa.select(ALERTS.c.id))))


def _alert(row: dict[str, Any]) -> Alert:
    row["severity"] = Severity(row["severity"])
    return Alert(**row)


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}

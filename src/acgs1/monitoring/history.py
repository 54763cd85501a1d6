"""The monitor's memory: single checks for a day, five-minute sums for two weeks, hourly sums for 400 days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from acgs1.core.clock import Clock
from acgs1.core.ids import new_id
from acgs1.kit.db import Database, Instant, numbers, position
from acgs1.monitoring.health import Check, Status
from acgs1.monitoring.slo import WINDOWS, Tally
from acgs1.monitoring.workflows import Execution

_tables = sa.MetaData()
_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

CHECKS = sa.Table(
    "health_check",
    _tables,
    sa.Column("id", _id, primary_key=True, autoincrement=True),
    sa.Column("target", sa.String(64)),
    sa.Column("at", Instant()),
    sa.Column("status", sa.String(16)),
    sa.Column("good", sa.Boolean()),
    sa.Column("counted", sa.Boolean()),
    sa.Column("seconds", sa.Float(53)),
    sa.Column("detail", sa.String(400)),
)
ROLLUPS = sa.Table(
    "health_rollup",
    _tables,
    sa.Column("target", sa.String(64), primary_key=True),
    sa.Column("width", sa.Integer(), primary_key=True),
    sa.Column("start", sa.BigInteger(), primary_key=True),
    sa.Column("checks", sa.Integer()),
    sa.Column("good", sa.Integer()),
    sa.Column("seconds", sa.Float(53)),
    sa.Column("slowest", sa.Float(53)),
)
MAINTENANCE = sa.Table(
    "maintenance",
    _tables,
    sa.Column("id", sa.String(60), primary_key=True),
    sa.Column("target", sa.String(64)),
    sa.Column("starts_at", Instant()),
    sa.Column("ends_at", Instant()),
    sa.Column("reason", sa.String(400)),
    sa.Column("made_by", sa.String(80)),
)
WORKFLOWS = sa.Table(
    "workflow_execution",
    _tables,
    sa.Column("id", _id, primary_key=True, autoincrement=True),
    sa.Column("workflow_type", sa.String(64)),
    sa.Column("finished_at", Instant()),
    sa.Column("seconds", sa.Float(53)),
    sa.Column("success", sa.Boolean()),
    sa.Column("compliance_score", sa.Float(53)),
)

_FIVE_MINUTES: Final = 300
_HOUR: Final = 3600
_KEPT: Final = {_FIVE_MINUTES: timedelta(days=14), _HOUR: timedelta(days=400)}
_CHECKS_KEPT: Final = timedelta(days=1)
_WORKFLOWS_KEPT: Final = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Point:
    """The checks of one target from `start` for `width` seconds (0: a single check). Checks in maintenance are left out."""

    start: datetime
    width: int
    checks: int
    good: int
    mean_seconds: float
    slowest_seconds: float


@dataclass(frozen=True, slots=True)
class Maintenance:
    """An announced pause of `target` (None: everything): its checks do not count and raise no alert."""

    id: str
    target: str | None
    starts_at: datetime
    ends_at: datetime
    reason: str
    made_by: str

    def covers(self, target: str, at: datetime) -> bool:
        return self.target in {None, target} and self.starts_at <= at < self.ends_at


class History:
    """Reads and writes of the monitor's database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def record(self, check: Check, *, counted: bool) -> None:
        """Keep the check and add it to the sums; uncounted ones (maintenance) only as themselves."""
        good = check.status.serves
        async with self._database.transaction() as session:
            await session.execute(
                CHECKS.insert().values(
                    target=check.target,
                    at=check.at,
                    status=check.status,
                    good=good,
                    counted=counted,
                    seconds=check.seconds,
                    detail=check.detail[:400],
                )
            )
            if not counted:
                return
            for width in _KEPT:
                start = int(check.at.timestamp()) // width * width
                insert = self._insert(ROLLUPS).values(
                    target=check.target, width=width, start=start, checks=1, good=int(good),
                    seconds=check.seconds, slowest=check.seconds,
                )  # fmt: skip
                new = insert.excluded
                await session.execute(
                    insert.on_conflict_do_update(
                        index_elements=["target", "width", "start"],
                        set_={
                            "checks": ROLLUPS.c.checks + 1,
                            "good": ROLLUPS.c.good + new.good,
                            "seconds": ROLLUPS.c.seconds + new.seconds,
                            "slowest": sa.case((new.slowest > ROLLUPS.c.slowest, new.slowest), else_=ROLLUPS.c.slowest),
                        },
                    )
                )

    async def prune(self) -> None:
        """Drop what has been kept long enough."""
        now = self._clock.now()
        async with self._database.transaction() as session:
            await session.execute(CHECKS.delete().where(CHECKS.c.at < now - _CHECKS_KEPT))
            await session.execute(WORKFLOWS.delete().where(WORKFLOWS.c.finished_at < now - _WORKFLOWS_KEPT))
            for width, kept in _KEPT.items():
                limit = int((now - kept).timestamp())
                await session.execute(ROLLUPS.delete().where(ROLLUPS.c.width == width, ROLLUPS.c.start < limit))

    async def tally(self, service: str, window: timedelta) -> Tally:
        """Counted checks of the last `window`: exact up to a day, in steps of five minutes up to 14 days, else of an hour."""
        since = self._clock.now() - window
        if window <= _CHECKS_KEPT:
            good = sa.func.sum(sa.case((CHECKS.c.good, 1), else_=0))
            query = sa.select(good, sa.func.count()).where(
                CHECKS.c.target == service, CHECKS.c.at > since, CHECKS.c.counted
            )
        else:
            width = _FIVE_MINUTES if window <= _KEPT[_FIVE_MINUTES] else _HOUR
            query = sa.select(sa.func.sum(ROLLUPS.c.good), sa.func.sum(ROLLUPS.c.checks)).where(
                ROLLUPS.c.target == service, ROLLUPS.c.width == width, ROLLUPS.c.start > int(since.timestamp()) - width
            )
        async with self._database.reading() as session:
            row = (await session.execute(query)).one()
        return Tally(int(row[0] or 0), int(row[1] or 0))

    async def tallies(self) -> dict[str, dict[timedelta, Tally]]:
        """Target -> the tally of each of WINDOWS, as `tally` has it."""
        found: dict[str, dict[timedelta, Tally]] = {}
        now = self._clock.now()
        async with self._database.reading() as session:
            for window in WINDOWS:
                if window <= _CHECKS_KEPT:
                    good = sa.func.sum(sa.case((CHECKS.c.good, 1), else_=0))
                    query = (
                        sa.select(CHECKS.c.target, good, sa.func.count())
                        .where(CHECKS.c.at > now - window, CHECKS.c.counted)
                        .group_by(CHECKS.c.target)
                    )
                else:
                    width = _FIVE_MINUTES if window <= _KEPT[_FIVE_MINUTES] else _HOUR
                    since = int((now - window).timestamp()) - width
                    query = (
                        sa.select(ROLLUPS.c.target, sa.func.sum(ROLLUPS.c.good), sa.func.sum(ROLLUPS.c.checks))
                        .where(ROLLUPS.c.width == width, ROLLUPS.c.start > since)
                        .group_by(ROLLUPS.c.target)
                    )
                for target, good, total in await session.execute(query):
                    found.setdefault(target, {})[window] = Tally(int(good), int(total))
        return found

    async def points(
        self, target: str, since: datetime, width: int, cursor: str | None = None, limit: int = 200
    ) -> tuple[list[Point], str | None]:
        """The target's past, newest first, and the cursor of the next page; `width` is 0, 300 or 3600 seconds.

        Raises ValueError for another width, InvalidCursor.
        """
        if width not in {0, *_KEPT}:
            raise ValueError(f"width is one of 0, {', '.join(map(str, _KEPT))} seconds, not `{width}`")
        key = CHECKS.c.id if width == 0 else ROLLUPS.c.start
        query = (
            sa.select(CHECKS).where(CHECKS.c.target == target, CHECKS.c.at >= since, CHECKS.c.counted.is_(True))
            if width == 0
            else sa.select(ROLLUPS)
            .where(ROLLUPS.c.target == target, ROLLUPS.c.width == width)
            .where(ROLLUPS.c.start >= int(since.timestamp()) - width)
        )
        if cursor is not None:
            query = query.where(key < position(cursor, numbers))
        async with self._database.reading() as session:
            rows = (await session.execute(query.order_by(key.desc()).limit(limit + 1))).all()
        following = str(getattr(rows[limit - 1], key.name)) if len(rows) > limit else None
        return [_point(row, width) for row in rows[:limit]], following

    async def last_checks(self) -> list[Check]:
        """The newest check of every target: where a restarted monitor begins."""
        newest = sa.select(sa.func.max(CHECKS.c.id)).group_by(CHECKS.c.target)
        async with self._database.reading() as session:
            rows = await session.execute(sa.select(CHECKS).where(CHECKS.c.id.in_(newest)))
            return [Check(r.target, r.at, Status(r.status), r.seconds, r.detail) for r in rows]

    async def add_maintenance(
        self, target: str | None, starts_at: datetime, ends_at: datetime, reason: str, made_by: str
    ) -> Maintenance:
        window = Maintenance(new_id("mnt"), target, starts_at, ends_at, reason, made_by)
        async with self._database.transaction() as session:
            await session.execute(
                MAINTENANCE.insert().values(
                    id=window.id, target=target, starts_at=starts_at, ends_at=ends_at, reason=reason, made_by=made_by
                )
            )
        return window

    async def end_maintenance(self, window_id: str, at: datetime) -> None:
        """The window ends `at` rather than later; one that had not begun by then never was."""
        async with self._database.transaction() as session:
            is_it = MAINTENANCE.c.id == window_id
            await session.execute(MAINTENANCE.delete().where(is_it, MAINTENANCE.c.starts_at >= at))
            await session.execute(MAINTENANCE.update().where(is_it, MAINTENANCE.c.ends_at > at).values(ends_at=at))

    async def maintenance(self) -> list[Maintenance]:
        """Windows that are open or to come."""
        async with self._database.reading() as session:
            rows = await session.execute(
                sa.select(MAINTENANCE)
                .where(MAINTENANCE.c.ends_at > self._clock.now())
                .order_by(MAINTENANCE.c.starts_at)
            )
            return [Maintenance(r.id, r.target, r.starts_at, r.ends_at, r.reason, r.made_by) for r in rows]

    async def record_executions(self, executions: Sequence[Execution]) -> None:
        async with self._database.transaction() as session:
            await session.execute(
                WORKFLOWS.insert(),
                [
                    {
                        "workflow_type": execution.workflow_type,
                        "finished_at": execution.finished_at,
                        "seconds": execution.seconds,
                        "success": execution.success,
                        "compliance_score": execution.compliance_score,
                    }
                    for execution in executions
                ],
            )

    async def executions(self, limit: int) -> Sequence[Execution]:
        """The last `limit` workflow runs, oldest first."""
        async with self._database.reading() as session:
            rows = (await session.execute(sa.select(WORKFLOWS).order_by(WORKFLOWS.c.id.desc()).limit(limit))).all()
        return [
            Execution(r.workflow_type, r.finished_at, r.seconds, r.success, r.compliance_score) for r in reversed(rows)
        ]

    def _insert(self, table: sa.Table) -> Any:
        return sqlite.insert(table) if self._database.is_sqlite else postgresql.insert(table)


def _point(row: Any, width: int) -> Point:
    if width == 0:
        return Point(row.at, 0, 1, int(row.good), row.seconds, row.seconds)
    start = datetime.fromtimestamp(row.start, UTC)
    return Point(start, width, row.checks, row.good, row.seconds / row.checks, row.slowest)

"""Counts of good and of all events per indicator and service, and the load by the step: what objectives and forecasts look at.

Kept by the minute for 12 hours, by five minutes for 14 days, by the hour for 60 days: as fine as the windows need.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from acgs1.core.clock import Clock
from acgs1.kit.db import Database, Json
from acgs1.monitoring.slo import WINDOWS, Indicator, Tally

_tables = sa.MetaData()

COUNTS = sa.Table(
    "slo_count",
    _tables,
    sa.Column("width", sa.Integer(), primary_key=True),
    sa.Column("start", sa.BigInteger(), primary_key=True),
    sa.Column("indicator", sa.String(16), primary_key=True),
    sa.Column("service", sa.String(64), primary_key=True),
    sa.Column("good", sa.BigInteger()),
    sa.Column("total", sa.BigInteger()),
)
LOAD = sa.Table(
    "load_step",
    _tables,
    sa.Column("service", sa.String(64), primary_key=True),
    sa.Column("start", sa.BigInteger(), primary_key=True),
    sa.Column("requests", sa.BigInteger()),
    sa.Column("within", Json),
)

_KEPT: Final = {60: timedelta(hours=12), 300: timedelta(days=14), 3600: timedelta(days=60)}
_LOAD_KEPT: Final = timedelta(days=35)


@dataclass(frozen=True, slots=True)
class LoadStep:
    """The requests of one service from `start` (seconds since the epoch) for one step; `within` as in the reports."""

    start: int
    requests: int
    within: tuple[int, ...]


class Counts:
    """Takes counts in memory and writes them down with `flush`. `step` is the width of the load's steps in seconds."""

    def __init__(self, database: Database, clock: Clock, *, step: int) -> None:
        self._database = database
        self._clock = clock
        self._step = step
        self._waiting: defaultdict[tuple[int, str, str], list[int]] = defaultdict(lambda: [0, 0])
        self._load: dict[tuple[str, int], list[int]] = {}

    def add(self, indicator: Indicator, service: str, good: int, total: int) -> None:
        """So many events happened just now."""
        if total > 0:
            count = self._waiting[int(self._clock.now().timestamp()) // 60 * 60, indicator, service]
            count[0] += good
            count[1] += total

    def add_load(self, service: str, requests: int, within: Sequence[int]) -> None:
        """So many requests were answered just now, `within` each bound."""
        start = int(self._clock.now().timestamp()) // self._step * self._step
        known = self._load.setdefault((service, start), [0] * (1 + len(within)))
        for index, value in enumerate((requests, *within)):
            known[index] += value

    async def flush(self) -> None:
        """Write down what was taken; what cannot be written is kept for the next time."""
        waiting, load = self._waiting, self._load
        if not waiting and not load:
            return
        self._waiting, self._load = defaultdict(lambda: [0, 0]), {}
        try:
            await self._write(waiting, load)
        except BaseException:
            for key, (good, total) in waiting.items():
                self._waiting[key][0] += good
                self._waiting[key][1] += total
            for key, values in load.items():
                newer = self._load.get(key, [0] * len(values))
                self._load[key] = [a + b for a, b in zip(values, newer, strict=True)]
            raise

    async def _write(
        self, waiting: dict[tuple[int, str, str], list[int]], load: dict[tuple[str, int], list[int]]
    ) -> None:
        sums: defaultdict[tuple[int, int, str, str], list[int]] = defaultdict(lambda: [0, 0])
        for (minute, indicator, service), (good, total) in waiting.items():
            for width in _KEPT:
                kept = sums[width, minute // width * width, indicator, service]
                kept[0] += good
                kept[1] += total
        rows = [
            {"width": width, "start": start, "indicator": indicator, "service": service, "good": good, "total": total}
            for (width, start, indicator, service), (good, total) in sums.items()
        ]
        async with self._database.transaction() as session:
            if rows:
                insert = self._insert(COUNTS)
                update = {"good": COUNTS.c.good + insert.excluded.good, "total": COUNTS.c.total + insert.excluded.total}
                key = ["width", "start", "indicator", "service"]
                await session.execute(insert.on_conflict_do_update(index_elements=key, set_=update), rows)
            for (service, start), (requests, *within) in load.items():
                await self._add_step(session, service, start, requests, within)

    async def _add_step(self, session: Any, service: str, start: int, requests: int, within: list[int]) -> None:
        at = (LOAD.c.service == service) & (LOAD.c.start == start)
        known = (await session.execute(sa.select(LOAD).where(at))).one_or_none()
        if known is None:
            await session.execute(LOAD.insert().values(service=service, start=start, requests=requests, within=within))
            return
        # Another version of the program may have counted by other bounds.
        same = len(known.within) == len(within)
        sums = [a + b for a, b in zip(known.within, within, strict=True)] if same else within
        await session.execute(LOAD.update().where(at).values(requests=known.requests + requests, within=sums))

    async def tallies(self) -> dict[tuple[str, str], dict[timedelta, Tally]]:
        """(indicator, service) -> the tally of each of WINDOWS."""
        found: dict[tuple[str, str], dict[timedelta, Tally]] = {}
        now = self._clock.now().timestamp()
        async with self._database.reading() as session:
            for window in WINDOWS:
                width = next(width for width, kept in _KEPT.items() if window <= kept)
                since = int(now - window.total_seconds())
                query = (
                    sa.select(
                        COUNTS.c.indicator, COUNTS.c.service, sa.func.sum(COUNTS.c.good), sa.func.sum(COUNTS.c.total)
                    )
                    .where(COUNTS.c.width == width, COUNTS.c.start > since - width)
                    .group_by(COUNTS.c.indicator, COUNTS.c.service)
                )
                for indicator, service, good, total in await session.execute(query):
                    found.setdefault((indicator, service), {})[window] = Tally(int(good), int(total))
        return found

    async def load(self, service: str) -> list[LoadStep]:
        """The whole steps of the last 35 days, oldest first, those without a request left out."""
        now = int(self._clock.now().timestamp())
        query = (
            sa.select(LOAD).where(LOAD.c.service == service, LOAD.c.start <= now - self._step).order_by(LOAD.c.start)
        )
        async with self._database.reading() as session:
            return [LoadStep(r.start, r.requests, tuple(r.within)) for r in await session.execute(query)]

    async def prune(self) -> None:
        """Drop what has been kept long enough."""
        now = self._clock.now()
        async with self._database.transaction() as session:
            for width, kept in _KEPT.items():
                limit = int((now - kept).timestamp()) - width
                await session.execute(COUNTS.delete().where(COUNTS.c.width == width, COUNTS.c.start < limit))
            await session.execute(LOAD.delete().where(LOAD.c.start < int((now - _LOAD_KEPT).timestamp())))

    def _insert(self, table: sa.Table) -> Any:
        return sqlite.insert(table) if self._database.is_sqlite else postgresql.insert(table)

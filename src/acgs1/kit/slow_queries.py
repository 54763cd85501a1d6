"""Slow statements: captured as they happen, with the database's plan for them, and never with their parameters."""

import asyncio
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import uuid4
from weakref import WeakSet

from prometheus_client import Counter
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from acgs1.contracts.performance import SlowQueries, SlowQuery
from acgs1.core.clock import Clock, SystemClock
from acgs1.kit.errors import DependencyUnavailable

SLOW = Counter("acgs_slow_queries", "Statements that took longer than the threshold", ["service"])

_STATEMENTS: Final = 100
_LONGEST_STATEMENT: Final = 4000
_PLAN_LINES: Final = 100
_PLAN_SECONDS: Final = 5.0
_EXPLAINED: Final = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|VALUES)\b", re.IGNORECASE)
# A list of values has as many places as there were values: one statement to a reader.
_PLACES: Final = re.compile(r"(\?|\$\d+(?:::[\w ()]+?)?)(\s*,\s*(\?|\$\d+(?:::[\w ()]+?)?))+(?=\s*\))")

_ROWS: Final = re.compile(r"(\([?$][^()]*\.\.\.\))(\s*,\s*\([?$][^()]*\.\.\.\))+")


_logs: "WeakSet[SlowQueryLog]" = WeakSet()


@dataclass(slots=True)
class _Captured:
    text: str
    parameters: int
    first_at: datetime
    last_at: datetime
    count: int = 0
    total: float = 0.0
    longest: float = 0.0
    plan: list[str] = field(default_factory=list[str])
    missing: str | None = "not explained yet"


class SlowQueryLog:
    """The slow statements of one engine: at most 100, each once; the one that cost least in all makes room for a new one.

    `threshold` is in seconds, from handing the statement to the driver until its answer is there. A plan is asked for once per
    statement, in the background, on a connection of the pool.
    """

    def __init__(
        self, service: str, engine: AsyncEngine, threshold: float, clock: Clock | None = None, *, pool: str = "database"
    ) -> None:
        self.service = service
        self._pool = pool
        self._engine = engine
        # What it asks itself is not captured.
        self._quiet = engine.execution_options(acgs_explaining=True)
        self._threshold = threshold
        self._clock = clock or SystemClock()
        self._captured: dict[str, _Captured] = {}
        self._forgotten = 0
        self._explaining: set[asyncio.Task[None]] = set()
        self._counter = SLOW.labels(service)
        event.listen(engine.sync_engine, "before_cursor_execute", _begin)
        event.listen(engine.sync_engine, "after_cursor_execute", self._end)
        _logs.add(self)

    def report(self) -> SlowQueries:
        return SlowQueries(
            service=self.service,
            threshold_seconds=self._threshold,
            forgotten=self._forgotten,
            queries=[
                SlowQuery(
                    pool=self._pool,
                    statement=one.text[:_LONGEST_STATEMENT],
                    count=one.count,
                    total_seconds=round(one.total, 6),
                    longest_seconds=round(one.longest, 6),
                    first_at=one.first_at,
                    last_at=one.last_at,
                    plan=one.plan,
                    plan_missing=one.missing,
                )
                for one in sorted(self._captured.values(), key=lambda one: -one.total)
            ],
        )

    def report_all(self) -> SlowQueries:
        """The same with those of the service's other databases in this process: the one of its cache."""
        reports = [log.report() for log in {self, *_logs} if log.service == self.service]
        queries = [query for report in reports for query in report.queries]
        return SlowQueries(
            service=self.service,
            threshold_seconds=self._threshold,
            forgotten=sum(report.forgotten for report in reports),
            queries=sorted(queries, key=lambda query: -query.total_seconds),
        )

    async def close(self) -> None:
        _logs.discard(self)
        for task in self._explaining:
            task.cancel()
        await asyncio.gather(*self._explaining, return_exceptions=True)

    def _end(
        self, connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        del connection, cursor
        seconds = time.perf_counter() - context.acgs_began
        if seconds < self._threshold or context.execution_options.get("acgs_explaining"):
            return
        self._counter.inc()
        name = _ROWS.sub(r"\1, ...", _PLACES.sub(r"\1, ...", statement))
        now = self._clock.now()
        captured = self._captured.get(name)
        if captured is None:
            if len(self._captured) >= _STATEMENTS:
                cheapest = min(self._captured, key=lambda one: self._captured[one].total)
                del self._captured[cheapest]
                self._forgotten += 1
            first: Any = parameters[0] if executemany and parameters else parameters
            captured = self._captured[name] = _Captured(name, len(first or ()), now, now)
            self._explain(captured, statement)
        captured.count += 1
        captured.total += seconds
        captured.longest = max(captured.longest, seconds)
        captured.last_at = now

    def _explain(self, captured: _Captured, statement: str) -> None:
        if not _EXPLAINED.match(statement):
            captured.missing = "a statement of this kind has no plan"
            return
        task = asyncio.get_running_loop().create_task(self._ask(captured, statement), name="slow-query-plan")
        self._explaining.add(task)
        task.add_done_callback(self._explaining.discard)

    async def _ask(self, captured: _Captured, statement: str) -> None:
        try:
            async with asyncio.timeout(_PLAN_SECONDS):
                if self._engine.dialect.name == "sqlite":
                    captured.plan = await self._ask_sqlite(statement, captured.parameters)
                else:
                    captured.plan = await self._ask_postgresql(statement, captured.parameters)
            captured.missing = None
        # The driver's own errors are no common class of ours; the type alone, because a message may quote values.
        except (DependencyUnavailable, SQLAlchemyError, OSError, TimeoutError, _driver_error(self._engine)) as error:
            captured.missing = f"the database gave none: {type(error).__name__}"

    async def _ask_sqlite(self, statement: str, parameters: int) -> list[str]:
        async with self._quiet.connect() as connection:
            rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (None,) * parameters)
            depth: dict[int, int] = {}
            lines: list[str] = []
            for row in rows.all()[:_PLAN_LINES]:
                number, parent, _, detail = tuple[int, int, int, str](row)
                depth[number] = depth.get(parent, -1) + 1
                lines.append("  " * depth[number] + detail)
            return lines

    async def _ask_postgresql(self, statement: str, parameters: int) -> list[str]:
        """By way of a prepared statement with a generic plan, which shows `$1` where values would be."""
        async with self._quiet.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            places = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
            name = f"acgs_plan_{uuid4().hex}"
            try:
                async with driver.transaction(readonly=True):
                    await driver.execute(
                        "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL statement_timeout = 3000"
                    )
                    await driver.execute(f"PREPARE {name} AS {statement}")
                    rows = await driver.fetch(f"EXPLAIN EXECUTE {name}{places}")
            finally:
                with suppress(_driver_error(self._engine)):
                    await driver.execute(f"DEALLOCATE {name}")
            return [str(row[0]) for row in rows[:_PLAN_LINES]]


def _begin(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
    del connection, cursor, statement, parameters, executemany
    context.acgs_began = time.perf_counter()


def _driver_error(engine: AsyncEngine) -> type[Exception]:
    if engine.dialect.name == "sqlite":
        import sqlite3

        return sqlite3.Error
    import asyncpg

    return asyncpg.PostgresError

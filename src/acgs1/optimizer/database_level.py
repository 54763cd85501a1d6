"""The database as a shared cache level: one table of records, one of scope positions. SQLite file or PostgreSQL schema.

The tables are made here and not by migrations: what they hold may be thrown away at any time.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from acgs1.core.clock import Clock, SystemClock
from acgs1.kit.db import Database
from acgs1.kit.errors import DependencyUnavailable
from acgs1.optimizer.levels import EVERYTHING, LONGEST_SECONDS, Held, Record, Sample, name_of

_log = logging.getLogger(__name__)

_CHANNEL: Final = "acgs_cache"
_LISTENING_POLL_SECONDS: Final = 1.0

_tables = sa.MetaData()

RECORDS = sa.Table(
    "cache_value",
    _tables,
    sa.Column("key", sa.String(400), primary_key=True),
    sa.Column("service", sa.String(100), nullable=False),
    sa.Column("operation", sa.String(200), nullable=False),
    sa.Column("bytes", sa.Integer, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Float(53), nullable=False),
    sa.Column("expires", sa.Float(53), nullable=False),
    sa.Column("stale_until", sa.Float(53), nullable=False, index=True),
    sa.Column("load_seconds", sa.Float(53), nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    # What a sample asks for is in the index: no value has to be read for it.
    sa.Index("ix_cache_value_held", "service", "operation", "bytes"),
)
# Of releases that did not know whose a value was.
_FORMER: Final = sa.Table("cache_record", sa.MetaData())

SCOPES = sa.Table(
    "cache_scope",
    _tables,
    sa.Column("scope", sa.String(400), primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False, index=True),
)


class DatabaseLevel:
    """A SharedLevel in a database that this object owns.

    Invalidations by other processes are looked for every `poll_seconds`; on PostgreSQL they are announced, and looked for less
    often while the announcements can be heard.

    `max_bytes`: over this, what expires soonest makes room; looked at with every sample, so it may be overstepped in between.
    """

    name = "database"

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock | None = None,
        timeout: float = 0.5,
        poll_seconds: float = 0.05,
        max_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        self.timeout = timeout
        self.position = 0
        self._database = database
        self._clock = clock or SystemClock()
        self._poll_seconds = poll_seconds
        self._max_bytes = max_bytes
        self._evictions = 0
        self._seen = 0
        self._own: set[tuple[str, int]] = set()
        self._following: asyncio.Task[None] | None = None
        if database.is_sqlite:
            # A power cut may cost the last records, which can be computed again; an fsync per write would cost more.
            event.listen(database.engine.sync_engine, "connect", _relax)

    async def start(self, heard: Callable[[str], None], lost_track: Callable[[], None]) -> None:
        del lost_track  # positions are in the table: nothing is missed, only heard late
        await self._database.warm()
        async with self._database.transaction() as session:
            if self._database.schema:
                await session.execute(sa.text(f'CREATE SCHEMA IF NOT EXISTS "{self._database.schema}"'))
            connection = await session.connection()
            await connection.run_sync(_FORMER.drop, checkfirst=True)
            await connection.run_sync(_tables.create_all)
        async with self._database.reading() as session:
            self._seen = self.position = (await session.scalar(sa.select(sa.func.max(SCOPES.c.position)))) or 0
        self._following = asyncio.create_task(self._follow(heard), name="cache-database-feed")

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        await self._database.close()

    async def ping(self) -> None:
        await self._database.ping()

    async def read(self, key: str, scopes: Sequence[str]) -> Record | None:
        moved = sa.select(sa.func.max(SCOPES.c.position)).where(SCOPES.c.scope.in_(scopes)).scalar_subquery()
        async with self._database.reading() as session:
            row = (await session.execute(sa.select(RECORDS, moved.label("moved")).where(RECORDS.c.key == key))).first()
        if row is None or (row.moved or 0) > row.position or row.stale_until <= self._clock.now().timestamp():
            return None
        return Record(row.payload, row.created, row.expires, row.stale_until, row.load_seconds, row.position)

    async def write(self, records: Sequence[tuple[str, Record]]) -> None:
        # The last one wins, as it would one by one; PostgreSQL refuses two of a key in one statement.
        rows = {
            key: {
                "key": key,
                "service": name_of(key)[0],
                "operation": name_of(key)[1],
                "bytes": len(record.payload),
                "payload": record.payload,
                "created": record.created,
                "expires": record.expires,
                "stale_until": record.stale_until,
                "load_seconds": record.load_seconds,
                "position": record.position,
            }
            for key, record in records
        }
        insert = self._insert(RECORDS).values(list(rows.values()))
        replaced = {column.name: insert.excluded[column.name] for column in RECORDS.c if column.name != "key"}
        async with self._database.transaction() as session:
            await session.execute(
                # A record computed before an invalidation must not replace one computed after it.
                insert.on_conflict_do_update(
                    index_elements=["key"], set_=replaced, where=RECORDS.c.position <= insert.excluded.position
                )
            )
            now = self._clock.now().timestamp()
            await session.execute(RECORDS.delete().where(RECORDS.c.stale_until <= now))

    async def invalidate(self, scopes: Sequence[str]) -> None:
        async with self._database.transaction() as session:
            if not self._database.is_sqlite:
                # Positions must become visible in their order, or a follower would skip one.
                await session.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('acgs_cache_scope'))"))
            newest = (await session.scalar(sa.select(sa.func.max(SCOPES.c.position)))) or 0
            # Microseconds, so that positions go on rising even after the table was lost.
            position = max(newest + 1, int(self._clock.now().timestamp() * 1_000_000))
            insert = self._insert(SCOPES).values(
                [{"scope": name, "position": position} for name in dict.fromkeys(scopes)]
            )
            await session.execute(
                insert.on_conflict_do_update(index_elements=["scope"], set_={"position": insert.excluded.position})
            )
            if EVERYTHING in scopes:
                await session.execute(RECORDS.delete())
            await self._forget_old_scopes(session, newest, position)
            if not self._database.is_sqlite:
                await session.execute(sa.text(f"SELECT pg_notify('{_CHANNEL}', '')"))
            self._own.update((name, position) for name in scopes)
        self.position = max(self.position, position)

    async def _forget_old_scopes(self, session: AsyncSession, newest: int, position: int) -> None:
        """Scopes that were invalidated longer ago than any record lives say nothing that the newest of them does not say.

        INVARIANT: what is older than a scope that was forgotten stays invalid: its position is `EVERYTHING`'s from then on. `newest`
        is kept, because positions rise from it.
        """
        horizon = min(position - int(LONGEST_SECONDS * 1_000_000), newest - 1)
        old = sa.and_(SCOPES.c.position <= horizon, SCOPES.c.scope != EVERYTHING)
        last = await session.scalar(sa.select(sa.func.max(SCOPES.c.position)).where(old))
        if last is None:
            return
        await session.execute(SCOPES.delete().where(old))
        mark = self._insert(SCOPES).values(scope=EVERYTHING, position=last)
        await session.execute(
            mark.on_conflict_do_update(
                index_elements=["scope"],
                set_={"position": mark.excluded.position},
                where=SCOPES.c.position < mark.excluded.position,
            )
        )

    async def sample(self, service: str) -> Sample:
        async with self._database.reading() as session:
            total = (await session.scalar(sa.select(sa.func.sum(RECORDS.c.bytes)))) or 0
        if total > self._max_bytes:
            await self._make_room()
        held = (
            sa.select(RECORDS.c.operation, sa.func.count(), sa.func.sum(RECORDS.c.bytes))
            .where(RECORDS.c.service == service)
            .group_by(RECORDS.c.operation)
        )
        async with self._database.reading() as session:
            rows = (await session.execute(held)).all()
        return Sample({name: Held(entries, int(size)) for name, entries, size in rows}, self._evictions)

    async def _make_room(self) -> None:
        """Keep what lives longest, up to nine tenths of the room."""
        running = sa.func.sum(RECORDS.c.bytes).over(order_by=(RECORDS.c.stale_until.desc(), RECORDS.c.key))
        ranked = sa.select(RECORDS.c.key, running.label("kept")).subquery()
        too_much = sa.select(ranked.c.key).where(ranked.c.kept > self._max_bytes * 9 // 10)
        async with self._database.transaction() as session:
            gone = await session.execute(RECORDS.delete().where(RECORDS.c.key.in_(too_much)).returning(RECORDS.c.key))
            self._evictions += len(gone.all())

    async def claim(self, key: str, seconds: float) -> int | None:
        # Computing twice is cheaper than two more write transactions per load; Redis arbitrates where it is there.
        del key, seconds
        return 0

    async def release(self, key: str, fence: int) -> None:
        del key, fence

    def _insert(self, table: sa.Table) -> Any:
        return sqlite.insert(table) if self._database.is_sqlite else postgresql.insert(table)

    async def _follow(self, heard: Callable[[str], None]) -> None:
        if not self._database.is_sqlite:
            return await self._follow_announcements(heard)
        with contextlib.ExitStack() as closing:
            moved = self._watch(closing)
            while True:
                await asyncio.sleep(self._poll_seconds)
                if moved is None or moved():
                    await self._catch_up(heard)

    async def _follow_announcements(self, heard: Callable[[str], None]) -> None:
        """On PostgreSQL: LISTEN on a connection of its own, so that nobody needs to ask twenty times a second."""
        announced = asyncio.Event()

        def wake(*_: Any) -> None:
            announced.set()

        while True:
            try:
                async with self._database.engine.connect() as connection:
                    driver: Any = (await connection.get_raw_connection()).driver_connection
                    await driver.add_listener(_CHANNEL, wake)
                    driver.add_termination_listener(wake)
                    while not driver.is_closed():
                        # What was announced before this connection listened is in the table.
                        announced.clear()
                        await self._catch_up(heard)
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(announced.wait(), _LISTENING_POLL_SECONDS)
            except (DependencyUnavailable, SQLAlchemyError, OSError, TimeoutError) as error:
                _log.info("cache invalidations are not announced now: %s", type(error).__name__)
            await asyncio.sleep(self._poll_seconds)
            await self._catch_up(heard)

    def _watch(self, closing: contextlib.ExitStack) -> Callable[[], bool] | None:
        """On SQLite, a look-up in an index by way of a connection of its own: microseconds, and in WAL mode it waits for
        nobody. A session and a transaction per poll would cost a hundred times that."""
        path = self._database.engine.url.database
        if not self._database.is_sqlite or not path:
            return None
        connection = closing.enter_context(contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)))

        def moved() -> bool:
            try:
                newest = connection.execute("SELECT max(position) FROM cache_scope").fetchone()[0]
            except sqlite3.Error:
                return True  # whatever it is, the full query will say
            return (newest or 0) > self._seen

        return moved

    async def _catch_up(self, heard: Callable[[str], None]) -> None:
        try:
            async with self._database.reading() as session:
                rows = (
                    await session.execute(
                        sa.select(SCOPES.c.scope, SCOPES.c.position)
                        .where(SCOPES.c.position > self._seen)
                        .order_by(SCOPES.c.position)
                    )
                ).all()
        except (DependencyUnavailable, SQLAlchemyError, OSError) as error:
            _log.info("cache invalidations cannot be read now: %s", type(error).__name__)
            return
        for row in rows:
            self._seen = max(self._seen, row.position)
            if (row.scope, row.position) in self._own:
                self._own.discard((row.scope, row.position))
            else:
                heard(row.scope)
        self.position = max(self.position, self._seen)
        # One that was overtaken by a later invalidation of the same scope is not in the table any more.
        self._own = {one for one in self._own if one[1] > self._seen}


def _relax(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()

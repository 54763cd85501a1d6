"""One database per service: a SQLite file by default, a PostgreSQL schema by URL. The same code runs on both."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import DateTime, MetaData, Select, TypeDecorator, event, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.types import JSON

from acgs1.core.errors import ErrorItem
from acgs1.core.ids import is_id
from acgs1.kit.errors import DependencyUnavailable, InvalidCursor
from acgs1.kit.home import Home
from acgs1.kit.pools import Kind, PoolMeter, measured_queue
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.slow_queries import SlowQueryLog
from acgs1.kit.sqlite import BEGIN_TO_WRITE, connect
from acgs1.kit.statements import watch_engine

RECORDED = "acgs_recorded"
"""In a session's `info`, once it has put something into the outbox: type and subject of its first event."""

joined: ContextVar[Callable[[AsyncSession], Awaitable[None]] | None] = ContextVar("acgs_joined", default=None)
"""What belongs into the same transaction as the change that the request at hand makes; awaited before a `Store`'s transaction commits."""

R = TypeVar("R")
Row = TypeVar("Row")

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

Json = JSON().with_variant(JSONB(), "postgresql")


class RawJson(str):
    """JSON text, to be stored in a `Json` column as it is rather than written once more."""

    __slots__ = ()


def _to_json(value: Any) -> str:
    return str(value) if isinstance(value, RawJson) else json.dumps(value)


def metadata() -> MetaData:
    """Fresh metadata with stable constraint names, so that migrations can name what they change."""
    return MetaData(naming_convention=NAMING)


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime. SQLite keeps none of that by itself, so this does."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: object) -> datetime | None:  # noqa: ARG002 - the base names it
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a time zone before it is stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: object) -> datetime | None:  # noqa: ARG002 - the base names it
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Database:
    """Engine and transactions of one service. `close` it when done.

    Writers on SQLite take the write lock when they begin (BEGIN IMMEDIATE), so that two of them queue up (for 15 s at most)
    rather than fail half-way. A database that cannot be reached is DependencyUnavailable, to those who begin and in the middle; the first
    transaction after it is back finds no connection from before.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str | None = None,
        pool_size: int = 8,
        owner: str = "unnamed",
        pool: Kind = "database",
        slow_query_seconds: float = 0.1,
    ) -> None:
        """`owner` and `pool` name the pool in the metrics. What takes `slow_query_seconds` stands in `slow_queries`."""
        parsed = make_url(url)
        self._pool_size = pool_size
        self._meter = PoolMeter(owner, pool, pool_size)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.schema = None if self.is_sqlite else schema
        connect_args: dict[str, Any] = {}
        if self.is_sqlite:
            connect_args |= {"timeout": 15, "async_creator_fn": partial(connect, turn=asyncio.Lock())}
        elif schema:
            connect_args["server_settings"] = {"search_path": schema}
        self.engine: AsyncEngine = create_async_engine(
            parsed,
            poolclass=measured_queue(self._meter),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=10,
            connect_args=connect_args,
            hide_parameters=True,
            json_serializer=_to_json,
        )
        watch_engine(self.engine.sync_engine)
        if self.is_sqlite:
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_sqlite)
        else:
            event.listen(self.engine.sync_engine, "do_connect", _connect)
            event.listen(self.engine.sync_engine, "checkout", _expect_open)
        self.slow_queries = SlowQueryLog(owner, self.engine, slow_query_seconds, pool=pool)
        self.recorded = asyncio.Event()
        """Set when a transaction that put something into the outbox was committed by this process."""
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self._writing = async_sessionmaker(self.engine.execution_options(acgs_write=True), expire_on_commit=False)

    @classmethod
    def for_service(cls, service: str, settings: PlatformSettings, home: Home) -> "Database":
        """The database that the settings give to `service`."""
        size, slow = settings.database_pool_size, settings.slow_query_ms / 1000
        if settings.database_url is not None:
            url = settings.database_url.get_secret_value()
            return cls(url, schema=f"acgs_{service}", pool_size=size, owner=service, slow_query_seconds=slow)
        return cls(
            f"sqlite+aiosqlite:///{home.database(service)}", pool_size=size, owner=service, slow_query_seconds=slow
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncSession]:
        """A write transaction: committed when the block ends, rolled back when it raises."""
        async with self._writing() as session:
            with _reached():
                async with session.begin():
                    yield session
            if session.info.get(RECORDED):
                self.recorded.set()

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncSession]:
        """A read-only view at one instant."""
        with _reached():
            async with self._sessions() as session, session.begin():
                yield session

    async def ping(self) -> None:
        """Raises when the database does not answer."""
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def warm(self) -> None:
        """Make connections before the first request needs them: half of the pool, at least one."""
        made = [self.engine.connect() for _ in range(max(1, self._pool_size // 2))]
        async with AsyncExitStack() as held:
            for connection in made:
                await held.enter_async_context(connection)

    async def migrate(self, migrations: Path | None) -> None:
        """Bring the schema to the newest revision: the platform's own tables and those of the service in `migrations`."""
        async with self.engine.execution_options(acgs_write=True).begin() as connection:
            if self.schema:
                # Two processes of one service may start at once; the lock ends with the transaction.
                await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": self.schema})
                await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}"'))
            await connection.run_sync(_upgrade, migrations)

    async def close(self) -> None:
        await self.slow_queries.close()
        # A cancelled shutdown must not leave connections behind.
        await asyncio.shield(self.engine.dispose())
        self._meter.close()


class Store(Generic[R]):
    """Transactions that hand out a service's repository rather than a session: what `service.py` works with.

    What `joined` holds is committed with each of them, or rolls it back.
    """

    def __init__(self, database: Database, repository: Callable[[AsyncSession], R]) -> None:
        self._database = database
        self._repository = repository

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[R]:
        async with self._database.transaction() as session:
            yield self._repository(session)
            if (join := joined.get()) is not None:
                await join(session)

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[R]:
        async with self._database.reading() as session:
            yield self._repository(session)


Form = Callable[[str], str | int | None]
"""The value of a list's key that a cursor stands for; None for what is no cursor of that list."""


def ids(prefix: str) -> Form:
    """The list is ordered by identifiers `<prefix>_<uuidv7>`."""
    return lambda cursor: cursor if is_id(cursor, prefix) else None


def numbers(cursor: str) -> int | None:
    """The list is ordered by numbers from 0."""
    return int(cursor) if re.fullmatch(r"[0-9]{1,18}", cursor) else None


def wallets(cursor: str) -> str | None:
    """The list is ordered by addresses of the ledger (32 bytes in base58)."""
    return cursor if re.fullmatch(r"[1-9A-HJ-NP-Za-km-z]{32,44}", cursor) else None


def position(cursor: str, form: Form) -> str | int:
    """Where in its list `cursor` stands. Raises InvalidCursor for one that the list cannot have given out."""
    found = form(cursor)
    if found is None:
        raise InvalidCursor(
            f"`{cursor[:80]}` is not a cursor of this list; leave it out to start at its beginning",
            items=(ErrorItem("a cursor is the `next_cursor` of the page before", parameter="cursor"),),
        )
    return found


async def page(
    session: AsyncSession, statement: Select[Row], key: Any, cursor: str | None, limit: int, form: Form
) -> tuple[list[Row], str | None]:
    """Rows of `statement` in descending order of `key` after `cursor`, and the cursor of the next page.

    `key` is a column with another value in each row, which `form` tells; for a list that is newest first, one whose values order by time
    (UUIDv7 ids, sequence numbers). Its value in the last row is the cursor. Raises InvalidCursor.
    """
    if cursor is not None:
        statement = statement.where(key < position(cursor, form))
    rows = list((await session.scalars(statement.order_by(key.desc()).limit(limit + 1))).all())
    more = len(rows) > limit
    rows = rows[:limit]
    return rows, str(getattr(rows[-1], key.key)) if more else None


@contextmanager
def _reached() -> Generator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise DependencyUnavailable("the database has had no connection to spare for too long") from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise DependencyUnavailable("the connection to the database was lost") from error


def _connect(dialect: Any, _: object, arguments: list[Any], named: dict[str, Any]) -> Any:
    try:
        return dialect.connect(*arguments, **named)
    # Whatever the driver, the network or the server says to a connection; the log has the cause.
    except Exception as error:
        raise DependencyUnavailable(f"no connection to the database: {type(error).__name__}") from error


def _expect_open(connection: Any, *_: object) -> None:
    """The driver has noticed that the server closed it; the pool then makes another."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def _prepare_sqlite(connection: Any, _: object) -> None:
    # The driver would otherwise begin transactions on its own terms.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA busy_timeout = 0")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("acgs_write", False)
    connection.exec_driver_sql(BEGIN_TO_WRITE if write else "BEGIN")


def _upgrade(connection: Connection, migrations: Path | None) -> None:
    # Imported here: only needed at start, and heavy.
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    kit = Path(__file__).parent / "migrations"
    locations = [str(kit / "platform"), *([str(migrations)] if migrations else [])]
    config = Config()
    config.set_main_option("script_location", str(kit))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(locations))
    scripts = ScriptDirectory.from_config(config)

    def upgrade(revision: Any, _: Any) -> Any:
        return scripts._upgrade_revs("heads", revision)  # pyright: ignore[reportPrivateUsage]

    with EnvironmentContext(config, scripts, fn=upgrade) as environment:
        environment.configure(connection=connection, target_metadata=None)
        environment.run_migrations()

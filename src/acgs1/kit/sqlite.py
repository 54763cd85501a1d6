"""SQLite on the event loop: what is answered from memory runs where it is asked for, what waits for the disk on the connection's thread.

aiosqlite hands every call to a thread. A query is seven of them (cursor, BEGIN, SELECT, rows, two closings, COMMIT), and at each the loop
and the thread contend for the interpreter: under load that costs several times what SQLite does. Here queries and changes of rows that are
named run on the loop. To the thread goes a commit of what was written, and every statement of another kind. A query that takes longer than
a moment is broken off and begun again there. Writers of a process take turns; who finds the database locked by another process tries again
without keeping anybody up.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar, cast

import aiosqlite

T = TypeVar("T")

INLINE_SECONDS: Final = 0.003
"""How long a query may keep the loop to itself."""
_LOOK_EVERY: Final = 10_000
"""Instructions of SQLite's virtual machine between two looks at the clock: a fraction of a millisecond."""
_PAUSES: Final = (0.001, 0.05)
"""Seconds between tries while the database is locked: the first, doubled up to the last."""
BEGIN_TO_WRITE: Final = "BEGIN IMMEDIATE"
_READS: Final = frozenset({"SELECT", "BEGIN"})
_CHANGES: Final = frozenset({"INSERT", "UPDATE"})


def connect(path: str, *, timeout: float, turn: asyncio.Lock, **arguments: Any) -> "Connection":
    """A connection, to be awaited, that waits `timeout` seconds for the database's locks. `turn` is held by the one of this process's
    connections to the database that writes. Other `arguments` are those of `sqlite3.connect`.

    Set its busy timeout to 0 once it is set up: a lock is waited for here then, and not in SQLite, which would keep the loop waiting.
    """
    arguments["check_same_thread"] = False
    return Connection(partial(sqlite3.connect, path, timeout=timeout, **arguments), timeout, turn)


class Connection(aiosqlite.Connection):
    """aiosqlite's connection as SQLAlchemy's dialect uses it: by one task at a time, with transactions begun by statements.

    INVARIANT: nothing runs on the loop while the thread may be at work on the same connection.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection], timeout: float, turn: asyncio.Lock) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._thread.daemon = True
        self._timeout = timeout
        self._turn = turn
        self._has_turn = False
        self._forsaken = False
        self._writing = False
        self._until = float("inf")

    async def _connect(self) -> "Connection":
        await super()._connect()
        self._conn.set_progress_handler(lambda: time.monotonic() > self._until, _LOOK_EVERY)
        return self

    async def read(self, run: Callable[[], T]) -> T:
        """What `run` returns; it only reads."""
        try:
            return await self._unlocked(partial(self._for_a_moment, run))
        except sqlite3.OperationalError as error:
            if not _is(error, sqlite3.SQLITE_INTERRUPT):
                raise
        return await self._execute(run)

    async def change(self, run: Callable[[], T], *, small: bool) -> T:
        """What `run` returns, which may write; `small`: a few rows."""
        self._writing = True
        return await self._do(run, on_loop=small)

    async def lock(self, run: Callable[[], object]) -> None:
        """Take the write lock by `run`, when it is this connection's turn."""
        try:
            async with asyncio.timeout(self._timeout):
                self._has_turn = await self._turn.acquire()
        except TimeoutError:
            raise sqlite3.OperationalError("database is locked") from None
        try:
            await self._unlocked(run)
        except BaseException:
            self._pass_on()
            raise

    async def commit(self) -> None:
        await self._do(self._conn.commit, on_loop=not self._writing)
        self._pass_on()

    async def rollback(self) -> None:
        # What was written is in memory or behind the end of the log: it is let go without waiting for the disk.
        await self._do(self._conn.rollback, on_loop=True)
        self._pass_on()

    def stop(self) -> asyncio.Future[Any] | None:
        self._pass_on()
        return cast("asyncio.Future[Any] | None", super().stop())

    def cursor(self) -> Any:
        return Cursor(self, self._conn.cursor())

    def _pass_on(self) -> None:
        """The transaction is over."""
        self._writing = False
        if self._has_turn:
            self._has_turn = False
            self._turn.release()

    async def _do(self, run: Callable[[], T], *, on_loop: bool) -> T:
        return run() if on_loop and not self._forsaken else await self._execute(run)

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return await super()._execute(fn, *args, **kwargs)
        except asyncio.CancelledError:
            # The thread goes on with what was asked of it; from now on everything queues up behind that.
            self._forsaken = True
            raise

    def _for_a_moment(self, run: Callable[[], T]) -> T:
        self._until = time.monotonic() + INLINE_SECONDS
        try:
            return run()
        finally:
            self._until = float("inf")

    async def _unlocked(self, run: Callable[[], T]) -> T:
        pause, most = _PAUSES
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return await self._do(run, on_loop=True)
            except sqlite3.OperationalError as error:
                if not _is(error, sqlite3.SQLITE_BUSY) or time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, most)


class Cursor(aiosqlite.Cursor):
    """A cursor that has all its rows once it has executed: SQLAlchemy fetches all of them at once anyway."""

    def __init__(self, connection: Connection, cursor: sqlite3.Cursor) -> None:
        super().__init__(connection, cursor)
        self._connection = connection
        self._rows: list[Any] = []

    async def execute(self, sql: str, parameters: Any = None) -> "Cursor":
        run = partial(self._run, sql, parameters or ())
        kind = sql.lstrip()[:6].rstrip()
        if sql == BEGIN_TO_WRITE:
            await self._connection.lock(run)
        elif kind in _READS:
            self._rows = await self._connection.read(run)
        else:
            self._rows = await self._connection.change(run, small=kind in _CHANGES)
        return self

    async def executemany(self, sql: str, parameters: Any) -> "Cursor":
        await self._connection.change(partial(self._cursor.executemany, sql, parameters), small=False)
        return self

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        self._cursor.close()

    def _run(self, sql: str, values: Any) -> list[Any]:
        self._cursor.execute(sql, values)
        return self._cursor.fetchall() if self._cursor.description else []


def _is(error: sqlite3.Error, code: int) -> bool:
    """Whether SQLite gave this primary result code. What Python's driver raises on its own (a text that is not UTF-8) has none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF == code

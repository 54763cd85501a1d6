"""What runs on the event loop and what on the connection's thread."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from acgs1.kit.sqlite import BEGIN_TO_WRITE, Connection, connect
from polling import eventually_async

NUMBERS = "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT i FROM n)"


class Watched:
    """A connection, and what ran where."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.ran: list[tuple[str, bool]] = []
        """Statement, and whether it ran on the loop."""
        self.loop = threading.get_ident()
        connection._conn.set_trace_callback(self._note)

    def _note(self, statement: str) -> None:
        self.ran.append((statement.partition(" ")[0], threading.get_ident() == self.loop))

    async def do(self, sql: str, *values: object) -> list[Any]:
        cursor = await self.connection.cursor().__aenter__()
        await cursor.execute(sql, values)
        rows = await cursor.fetchall()
        await cursor.close()
        return rows


async def opened(path: Path, timeout: float = 15.0, turn: asyncio.Lock | None = None) -> Watched:
    """As another process would, or with the `turn` of this one."""
    watched = Watched(await connect(str(path), timeout=timeout, turn=turn or asyncio.Lock(), isolation_level=None))
    await watched.do("PRAGMA journal_mode = WAL")
    await watched.do("PRAGMA busy_timeout = 0")
    await watched.do("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)")
    await watched.connection.commit()
    watched.ran.clear()
    return watched


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Watched]:
    watched = await opened(tmp_path / "notes.sqlite3")
    yield watched
    await watched.connection.close()


async def test_a_read_never_leaves_the_loop(one: Watched):
    await one.do("BEGIN")
    assert await one.do("SELECT count(*) FROM notes") == [(0,)]
    await one.connection.commit()
    assert one.ran == [("BEGIN", True), ("SELECT", True), ("COMMIT", True)]


async def test_only_what_waits_for_the_disk_leaves_the_loop_in_a_small_change(one: Watched, tmp_path: Path):
    await one.do(BEGIN_TO_WRITE)
    await one.do("INSERT INTO notes (text) VALUES (?)", "first")
    assert await one.do("UPDATE notes SET text = ? RETURNING id, text", "changed") == [(1, "changed")]
    await one.connection.commit()
    assert one.ran == [("BEGIN", True), ("INSERT", True), ("UPDATE", True), ("COMMIT", False)]
    other = await opened(tmp_path / "notes.sqlite3")
    assert await other.do("SELECT text FROM notes") == [("changed",)]
    await other.connection.close()


async def test_what_may_be_long_leaves_the_loop(one: Watched):
    await one.do(BEGIN_TO_WRITE)
    cursor = await one.connection.cursor().__aenter__()
    await cursor.executemany("INSERT INTO notes (text) VALUES (?)", [("a",), ("b",)])
    await one.do("DELETE FROM notes WHERE text = ?", "a")
    await one.connection.rollback()
    assert one.ran == [("BEGIN", True), ("INSERT", False), ("INSERT", False), ("DELETE", False), ("ROLLBACK", True)]
    assert await one.do("SELECT count(*) FROM notes") == [(0,)]


async def test_a_long_query_is_broken_off_and_answered_by_the_thread(one: Watched):
    ran_on: list[bool] = []
    one.connection._conn.create_function("noted", 1, lambda i: ran_on.append(threading.get_ident() == one.loop) or i)
    assert await one.do(f"SELECT count(noted(i)) FROM {NUMBERS.format(300_000)}") == [(300_000,)]
    assert ran_on[0] is True
    assert ran_on[-300_000:] == [False] * 300_000
    assert await one.do("SELECT 1") == [(1,)]
    assert one.ran[-1] == ("SELECT", True), "the next one is tried here again"


async def test_a_query_that_is_broken_off_takes_nothing_of_its_transaction_with_it(one: Watched):
    await one.do(BEGIN_TO_WRITE)
    await one.do("INSERT INTO notes (text) VALUES (?)", "kept")
    await one.do(f"SELECT sum(i) FROM {NUMBERS.format(300_000)}")
    await one.connection.commit()
    assert await one.do("SELECT text FROM notes") == [("kept",)]


async def test_an_error_is_raised_as_the_database_has_it(one: Watched):
    await one.do("INSERT INTO notes (id, text) VALUES (1, 'a')")
    with pytest.raises(sqlite3.IntegrityError):
        await one.do("INSERT INTO notes (id, text) VALUES (1, 'b')")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await one.do("SELECT * FROM missing")
    with pytest.raises(sqlite3.OperationalError, match="decode to UTF-8"):
        await one.do("SELECT CAST(x'ff' AS TEXT)")


async def test_a_writer_waits_for_another_process_and_the_loop_for_neither(one: Watched, tmp_path: Path):
    other = await opened(tmp_path / "notes.sqlite3")
    await one.do(BEGIN_TO_WRITE)
    await one.do("INSERT INTO notes (text) VALUES ('a')")
    waiting = asyncio.create_task(other.do(BEGIN_TO_WRITE))

    async def tried_again() -> bool:
        return len(other.ran) > 2

    await eventually_async(tried_again, "another try to begin")
    assert not waiting.done()
    await one.connection.commit()
    await waiting
    assert await other.do("SELECT text FROM notes") == [("a",)]
    await other.connection.rollback()
    await other.connection.close()


async def test_a_lock_is_waited_for_no_longer_than_asked(one: Watched, tmp_path: Path):
    hurried = await opened(tmp_path / "notes.sqlite3", timeout=0.05)
    await one.do(BEGIN_TO_WRITE)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        await hurried.do(BEGIN_TO_WRITE)
    await one.connection.rollback()
    await hurried.do(BEGIN_TO_WRITE)
    await hurried.connection.close()


async def test_writers_of_one_process_take_turns(tmp_path: Path):
    turn = asyncio.Lock()
    first, *others = [await opened(tmp_path / "notes.sqlite3", turn=turn) for _ in range(4)]
    order: list[int] = []

    async def write(number: int, writer: Watched) -> None:
        await writer.do(BEGIN_TO_WRITE)
        order.append(number)
        await (writer.connection.rollback() if number == 1 else writer.connection.commit())

    await first.do(BEGIN_TO_WRITE)
    async with asyncio.TaskGroup() as group:
        for number, writer in enumerate(others):
            group.create_task(write(number, writer))
        await asyncio.sleep(0)
        await first.connection.close()
    assert order == [0, 1, 2], "a connection that is closed gives its turn up too"
    for writer in others:
        assert [kind for kind, _ in writer.ran] == ["BEGIN", "ROLLBACK" if writer is others[1] else "COMMIT"], "one try"
        await writer.connection.close()


async def test_a_turn_is_waited_for_no_longer_than_asked(tmp_path: Path):
    turn = asyncio.Lock()
    one, hurried = [await opened(tmp_path / "notes.sqlite3", 0.05, turn) for _ in range(2)]
    await one.do(BEGIN_TO_WRITE)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        await hurried.do(BEGIN_TO_WRITE)
    await one.connection.commit()
    await hurried.do(BEGIN_TO_WRITE)
    for each in (one, hurried):
        await each.connection.close()


async def test_after_a_cancellation_everything_queues_up_behind_what_was_left_running(one: Watched):
    await one.do(BEGIN_TO_WRITE)
    await one.do("INSERT INTO notes (text) VALUES ('a')")
    released = threading.Event()
    one.connection._conn.create_function("held", 0, lambda: released.wait(10))
    left = asyncio.create_task(one.do("DELETE FROM notes WHERE held() AND text = 'a'"))
    await asyncio.sleep(0)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    rolling_back = asyncio.create_task(one.connection.rollback())
    await asyncio.sleep(0)
    assert not rolling_back.done()
    released.set()
    await rolling_back
    assert one.ran[-1] == ("ROLLBACK", False)
    assert await one.do("SELECT count(*) FROM notes") == [(0,)]
    assert one.ran[-1] == ("SELECT", False)

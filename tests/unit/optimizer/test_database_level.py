"""What the database level keeps to itself: its room, and the table of what was invalidated."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from acgs1.core.clock import ManualClock
from acgs1.kit.db import Database
from acgs1.optimizer.database_level import SCOPES, DatabaseLevel
from acgs1.optimizer.levels import EVERYTHING, LONGEST_SECONDS, Record, cache_key

KEY = cache_key("s", "op", None, {})
SCOPE = "s\top\t"
OF_KEY = (EVERYTHING, "s\t\t", SCOPE)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def level(tmp_path: Path, clock: ManualClock) -> AsyncIterator[DatabaseLevel]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'shared.sqlite3'}", pool_size=2)
    made = DatabaseLevel(database, clock=clock, max_bytes=10_000, poll_seconds=3600)
    await made.start(lambda _: None, lambda: None)
    yield made
    await made.close()


def record(clock: ManualClock, position: int, *, lives: float = LONGEST_SECONDS, size: int = 1) -> Record:
    now = clock.now().timestamp()
    return Record(b"x" * size, now, now + lives, now + lives, 0.0, position)


async def scopes(level: DatabaseLevel) -> dict[str, int]:
    async with level._database.reading() as session:
        return {row.scope: row.position for row in (await session.execute(sa.select(SCOPES))).all()}


async def test_scopes_of_long_ago_are_forgotten_and_what_was_older_than_they_stays_invalid(
    level: DatabaseLevel, clock: ManualClock
):
    before = level.position
    for number in range(50):
        await level.invalidate([f"s\told {number}\t"])
    await level.invalidate([SCOPE])
    known = level.position
    assert len(await scopes(level)) == 51
    clock.advance(LONGEST_SECONDS + 60)
    await level.invalidate(["s\tnew\t"])
    kept = await scopes(level)
    assert set(kept) <= {EVERYTHING, SCOPE, "s\tnew\t"}
    # Written now by a process that has heard of nothing since, and by one that has heard of everything.
    await level.write([(KEY, record(clock, before))])
    assert await level.read(KEY, OF_KEY) is None
    await level.write([(KEY, record(clock, known))])
    assert await level.read(KEY, OF_KEY) is not None
    clock.advance(LONGEST_SECONDS + 60)
    await level.invalidate(["s\tnewer\t"])
    assert len(await scopes(level)) <= 3
    assert level.position > known


async def test_a_process_that_slept_through_what_was_forgotten_hears_that_everything_may_have_changed(
    level: DatabaseLevel, clock: ManualClock, tmp_path: Path
):
    sleeping = DatabaseLevel(Database(f"sqlite+aiosqlite:///{tmp_path / 'shared.sqlite3'}", pool_size=2), clock=clock)
    heard: list[str] = []
    sleeping._seen = 0
    await level.invalidate([SCOPE])
    clock.advance(LONGEST_SECONDS + 60)
    await level.invalidate(["s\tnew\t"])
    await level.invalidate(["s\tnewer\t"])
    await sleeping._catch_up(heard.append)
    assert SCOPE in heard or EVERYTHING in heard
    await sleeping._database.close()


async def test_a_clock_that_jumps_ahead_and_back_brings_no_old_value_back(
    level: DatabaseLevel, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    before = level.position
    await level.invalidate([SCOPE])
    with monkeypatch.context() as jumped:
        ahead = clock.now() + timedelta(days=30)
        jumped.setattr(clock, "now", lambda: ahead)
        await level.invalidate(["s\tnew\t"])
    await level.invalidate(["s\tnewer\t"])
    await level.write([(KEY, record(clock, before))])
    assert await level.read(KEY, OF_KEY) is None


async def test_what_expires_soonest_makes_room(level: DatabaseLevel, clock: ManualClock):
    keys = [cache_key("s", "op", None, {"n": number}) for number in range(12)]
    await level.write(
        [(key, record(clock, level.position, lives=100 + number, size=1000)) for number, key in enumerate(keys)]
    )
    sample = await level.sample("s")
    assert (sample.held["op"].entries, sample.held["op"].bytes, sample.evictions) == (9, 9000, 3)
    assert [number for number, key in enumerate(keys) if await level.read(key, OF_KEY) is None] == [0, 1, 2]
    assert (await level.sample("s")).evictions == 3
    assert (await level.sample("another")).held == {}


async def test_values_of_a_release_that_did_not_know_whose_they_were_make_way(tmp_path: Path, clock: ManualClock):
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'old.sqlite3'}", pool_size=2)
    async with database.transaction() as session:
        await session.execute(sa.text("CREATE TABLE cache_record (key VARCHAR(64) PRIMARY KEY, payload BLOB)"))
    level = DatabaseLevel(database, clock=clock)
    await level.start(lambda _: None, lambda: None)
    await level.write([(KEY, record(clock, level.position))])
    assert await level.read(KEY, OF_KEY) is not None
    async with database.reading() as session:
        tables = (await session.execute(sa.text("SELECT name FROM sqlite_master WHERE type = 'table'"))).scalars().all()
    assert "cache_record" not in tables
    await level.close()

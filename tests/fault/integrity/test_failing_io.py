"""Every read and write of an append fails once, before and after it took effect: the tree stays whole."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from acgs1.contracts.events import Event, new_event
from acgs1.core.clock import ManualClock
from acgs1.core.errors import DomainError
from acgs1.kit.db import Database, Store
from acgs1.kit.notes import NoteSigner
from acgs1.kit.signing import SigningKey
from acgs1.services.integrity import app
from acgs1.services.integrity.adapters.memory import CheckpointFile
from acgs1.services.integrity.audit import audit
from acgs1.services.integrity.repository import IntegrityRepository
from acgs1.services.integrity.sequencer import Sequencer


class DiskFailure(Exception):
    """What a failing disk or a lost connection looks like from here."""


class Faults:
    """Counts operations; the one with number `at` fails `when` (before or after it took effect)."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.at: int | None = None
        self.when = "before"

    def arm(self, at: int | None, when: str = "before") -> None:
        self.names, self.at, self.when = [], at, when

    async def around(self, name: str, operation: Callable[[], Any]) -> Any:
        number = len(self.names)
        self.names.append(name)
        if number == self.at and self.when == "before":
            raise DiskFailure(name)
        result = await operation()
        if number == self.at:
            raise DiskFailure(name)
        return result


class FaultyRecords:
    def __init__(self, records: Any, faults: Faults) -> None:
        self._records, self._faults = records, faults

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> Any:
            return await self._faults.around(name, lambda: getattr(self._records, name)(*args))

        return call


class FaultyStore:
    def __init__(self, store: Any, faults: Faults) -> None:
        self._store, self._faults = store, faults

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Any]:
        async with self._store.transaction() as records:
            yield FaultyRecords(records, self._faults)
            # Failing here means that the transaction is rolled back; failing below, that it was committed all the same.
            if self._faults.when == "before":
                await self._faults.around("commit", _nothing)
        if self._faults.when == "after":
            await self._faults.around("commit", _nothing)

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[Any]:
        async with self._store.reading() as records:
            yield FaultyRecords(records, self._faults)


class FaultyMemory:
    def __init__(self, memory: CheckpointFile, faults: Faults) -> None:
        self._memory, self._faults = memory, faults

    async def recall(self) -> str | None:
        return await self._faults.around("recall", self._memory.recall)

    async def remember(self, note: str) -> None:
        await self._faults.around("remember", lambda: self._memory.remember(note))


async def _nothing() -> None:
    return None


class Log:
    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite+aiosqlite:///{folder / 'log.sqlite3'}")
        self.signer = NoteSigner("example.org/log", SigningKey.load_or_create(folder / "log.pem"))
        self.memory = CheckpointFile(folder / "last-checkpoint")
        self.clock = ManualClock()
        self.faults = Faults()
        self.store = Store(self.database, IntegrityRepository)

    def sequencer(self) -> Sequencer:
        store: Any = FaultyStore(self.store, self.faults)
        return Sequencer(store, self.signer, FaultyMemory(self.memory, self.faults), self.clock)

    async def stored(self) -> list[str]:
        """The event ids in the log, which must be sound."""
        async with self.store.reading() as records:
            report = await audit(records, self.signer.verifier, await self.memory.recall())
            assert report.ok, report.findings
            return [row.event_id for row in await records.stored_leaves(0, 10_000)]


@pytest.fixture
async def log(tmp_path: Path):
    log = Log(tmp_path)
    await log.database.migrate(Path(app.__file__).parent / "migrations")
    yield log
    await log.database.close()


def some_events(log: Log, count: int) -> list[Event]:
    return [new_event("tester", "thing.happened", log.clock.now(), actor="a", subject="s") for _ in range(count)]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_each_failing_operation_of_an_append_is_an_error_and_the_repeat_logs_all_once(log: Log, when: str):
    sequencer = log.sequencer()
    await sequencer.start()
    logged: list[str] = []
    # What one append does when the log was just read, and when it is known.
    log.faults.arm(None, when)
    events = some_events(log, 3)
    await sequencer.append(events)
    logged += [event.id for event in events]
    operations = list(log.faults.names)
    assert operations == ["known", "add_leaves", "put_tiles", "add_checkpoint", "commit", "remember"]
    for number, operation in enumerate(operations):
        log.faults.arm(number, when)
        events = some_events(log, 100)
        with pytest.raises(DomainError) as raised:
            await sequencer.append(events)
        assert raised.value.code == "dependency_unavailable", operation
        assert sequencer.halted is None
        log.faults.arm(None)
        await log.stored()
        receipts = await sequencer.append(events)
        logged += [event.id for event in events]
        assert [receipt.leaf_index for receipt in receipts] == list(range(len(logged) - 100, len(logged)))
        # It had been written although the answer was an error, exactly where the failure came after the commit.
        committed = operation == "remember" or (operation == "commit" and when == "after")
        assert all(receipt.duplicate == committed for receipt in receipts), operation
        assert await log.stored() == logged


@pytest.mark.parametrize("when", ["before", "after"])
async def test_each_failing_operation_of_a_start_is_an_error_or_is_made_good_by_the_next_start(log: Log, when: str):
    number = 0
    while True:
        sequencer = log.sequencer()
        log.faults.arm(number, when)
        try:
            await sequencer.start()
        except DiskFailure:
            number += 1
            continue
        break
    # The last start had no operation left to fail.
    assert number >= 4
    log.faults.arm(None)
    await sequencer.append(some_events(log, 2))
    assert len(await log.stored()) == 2


async def test_two_writers_on_one_log_never_fork_it(log: Log):
    one, two = log.sequencer(), log.sequencer()
    await one.start()
    await two.start()
    logged: set[str] = set()
    for turn in range(10):
        events = some_events(log, 40)
        receipts = await (one, two)[turn % 2].append(events)
        assert not any(receipt.duplicate for receipt in receipts)
        logged |= {event.id for event in events}
    for _ in range(10):
        mine, yours = some_events(log, 3), some_events(log, 3)
        await asyncio.gather(one.append(mine), two.append(yours))
        logged |= {event.id for event in (*mine, *yours)}
    # The same events through both at once stand in the log once.
    events = some_events(log, 5)
    both = await asyncio.gather(one.append(events), two.append(events))
    assert [r.leaf_index for r in both[0]] == [r.leaf_index for r in both[1]]
    assert set(await log.stored()) == logged | {event.id for event in events}


async def test_the_log_s_time_does_not_go_backwards_when_the_clock_does(log: Log):
    sequencer = log.sequencer()
    await sequencer.start()
    log.clock.advance(3600)
    await sequencer.append(some_events(log, 1))
    log.clock = ManualClock()
    behind = Sequencer(log.store, log.signer, log.memory, log.clock)
    await behind.start()
    await behind.append(some_events(log, 1))
    assert len(await log.stored()) == 2


async def test_a_writer_that_starts_while_another_appends_does_not_take_that_for_a_log_set_back(
    log: Log, tmp_path: Path
):
    other = log.sequencer()
    await other.start()

    class Interrupted(CheckpointFile):
        """Another writer appends at the very moment in which the last checkpoint is read."""

        async def recall(self) -> str | None:
            await other.append(some_events(log, 3))
            return await log.memory.recall()

    late = Sequencer(log.store, log.signer, Interrupted(tmp_path / "last-checkpoint"), log.clock)
    await late.start()
    assert late.halted is None
    await late.append(some_events(log, 1))
    assert late.halted is None
    await log.stored()

"""The outbox: in order, until acknowledged, and never blocked by what the log could not take."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from acgs1.contracts.events import Event, new_event
from acgs1.core.clock import ManualClock
from acgs1.kit.db import Database, Store
from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.outbox import OutboxRelay, Recorder


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    opened = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.sqlite3'}")
    await opened.migrate(None)
    yield opened
    await opened.close()


CLOCK = ManualClock()


def event(number: int = 0, **data: object) -> Event:
    return new_event("tester", "thing.happened", CLOCK.now(), actor="a", subject=str(number), **data)  # type: ignore[arg-type]


async def record(database: Database, *events: Event) -> None:
    async with Store(database, Recorder).transaction() as recorder:
        await recorder.record_all(events)


class Log:
    def __init__(self) -> None:
        self.got: list[Event] = []
        self.fail_after = False
        self.fail_before = False

    async def __call__(self, events: list[str]) -> None:
        if self.fail_before:
            raise DependencyUnavailable("the log is away")
        self.got.extend(Event.model_validate_json(event) for event in events)
        if self.fail_after:
            raise DependencyUnavailable("the answer was lost")


async def test_events_leave_in_the_order_in_which_they_were_recorded(database: Database):
    events = [event(n) for n in range(25)]
    for one in events:
        await record(database, one)
    log = Log()
    relay = OutboxRelay("tester", database, log, CLOCK, batch=10)
    assert [await relay.deliver_once() for _ in range(4)] == [10, 10, 5, 0]
    assert log.got == events
    assert await relay.oldest() is None


async def test_nothing_leaves_before_the_log_has_acknowledged_it(database: Database):
    events = [event(n) for n in range(3)]
    await record(database, *events)
    log = Log()
    relay = OutboxRelay("tester", database, log, CLOCK)
    log.fail_before = True
    with pytest.raises(DependencyUnavailable):
        await relay.deliver_once()
    assert await relay.oldest() is not None
    log.fail_before, log.fail_after = False, True
    with pytest.raises(DependencyUnavailable):
        await relay.deliver_once()
    log.fail_after = False
    restarted = OutboxRelay("tester", database, log, CLOCK)
    assert await restarted.deliver_once() == 3
    assert log.got == [*events, *events], "repeated after the crash; the log knows them by their ids"


async def test_an_event_of_a_transaction_that_failed_is_never_delivered(database: Database):
    one = event()
    await record(database, one)
    with pytest.raises(IntegrityError):
        await record(database, event(), one)
    log = Log()
    await OutboxRelay("tester", database, log, CLOCK).deliver_once()
    assert log.got == [one]


@pytest.mark.parametrize("poison", [{"n": 2**60}, {"x": float("nan")}, {"s": "\ud800"}])
async def test_an_event_that_the_log_could_not_take_is_refused_when_it_is_recorded(
    database: Database, poison: dict[str, object]
):
    good = event(1)
    with pytest.raises(ValueError, match=r".+"):
        await record(database, event(0, **poison))
    await record(database, good)
    log = Log()
    await OutboxRelay("tester", database, log, CLOCK).deliver_once()
    assert log.got == [good]


async def test_the_same_event_is_recorded_once(database: Database):
    one = event()
    await record(database, one)
    with pytest.raises(IntegrityError):
        await record(database, one)

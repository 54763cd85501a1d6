import asyncio

import pytest

from acgs1.core.clock import ManualClock
from acgs1.kit.breaker import (
    DEFAULT_CONFIG,
    Breakers,
    CircuitBreaker,
    CircuitOpenError,
    Config,
    CoreEventListener,
    Outcome,
    State,
    UnknownBreaker,
    WindowType,
    breakers,
)


class Fault(Exception):
    pass


async def fail(edge: CircuitBreaker) -> None:
    with pytest.raises(Fault):
        async with edge:
            raise Fault("a message with an account number")


async def succeed(edge: CircuitBreaker, clock: ManualClock | None = None, seconds: float = 0.0) -> None:
    async with edge:
        if clock is not None:
            clock.advance(seconds)


async def open_it(edge: CircuitBreaker) -> None:
    for _ in range(10):
        await fail(edge)
    assert edge.state is State.OPEN


async def test_it_opens_at_the_failure_rate_and_then_calls_nothing():
    clock = ManualClock()
    registry = Breakers(clock)
    edge = registry.get("a->b")
    for _ in range(5):
        await succeed(edge)
    for _ in range(4):
        await fail(edge)
    assert edge.state is State.CLOSED, "nine calls are too few to judge"
    await fail(edge)
    assert edge.state is State.OPEN
    entered = False
    with pytest.raises(CircuitOpenError) as refused:
        async with edge:
            entered = True
    assert not entered
    assert refused.value.retry_after == pytest.approx(DEFAULT_CONFIG.wait_duration_in_open)
    (seen,) = registry.snapshot()
    assert (seen.state, seen.calls, seen.failure_rate, seen.rejected) == (
        State.OPEN,
        10,
        0.5,
        1,
    )
    assert seen.reason == "50% of the last 10 calls failed, 0% took 2 s or more"
    assert seen.last_failure == "Fault", "the type, never the message"


async def test_slow_calls_open_it_though_each_succeeds():
    clock = ManualClock()
    edge = Breakers(clock).get("a->b")
    for _ in range(10):
        await succeed(edge, clock, 2.0)
    assert edge.state is State.OPEN


async def test_old_failures_leave_the_window():
    clock = ManualClock()
    edge = Breakers(clock).get("a->b")
    for _ in range(9):
        await fail(edge)
    clock.advance(31)
    await fail(edge)
    assert edge.state is State.CLOSED


async def test_it_closes_after_good_probes_and_reopens_after_bad_ones():
    clock = ManualClock()
    registry = Breakers(clock)
    edge = registry.get("a->b")
    await open_it(edge)
    clock.advance(4.9)
    assert registry.snapshot()[0].retry_after == pytest.approx(0.1)
    with pytest.raises(CircuitOpenError):
        await succeed(edge)
    clock.advance(0.1)
    for _ in range(3):
        await fail(edge)
    assert edge.state is State.OPEN
    clock.advance(5)
    for _ in range(3):
        assert edge.state is not State.CLOSED
        await succeed(edge)
    assert edge.state is State.CLOSED
    changes = [(change.old, change.new) for change in registry.snapshot()[0].history]
    assert changes == [
        (State.CLOSED, State.OPEN),
        (State.OPEN, State.HALF_OPEN),
        (State.HALF_OPEN, State.OPEN),
        (State.OPEN, State.HALF_OPEN),
        (State.HALF_OPEN, State.CLOSED),
    ]


async def test_a_cancelled_probe_gives_its_place_back():
    clock = ManualClock()
    edge = Breakers(clock).get("a->b")
    await open_it(edge)
    clock.advance(5)
    entered = asyncio.Event()

    async def hang() -> None:
        async with edge:
            entered.set()
            await asyncio.Event().wait()

    probe = asyncio.create_task(hang())
    await entered.wait()
    with pytest.raises(CircuitOpenError):
        await succeed(edge)  # one probe at a time
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    for _ in range(3):
        await succeed(edge)
    assert edge.state is State.CLOSED


async def test_an_exception_that_does_not_speak_against_the_dependency_is_no_failure():
    edge = Breakers(ManualClock()).get("a->b", is_failure=lambda error: not isinstance(error, Fault))
    for _ in range(20):
        await fail(edge)
    assert edge.state is State.CLOSED


async def test_an_operator_forces_it_open_and_resets_it_with_a_reason_on_record():
    clock = ManualClock()
    registry = Breakers(clock)
    edge = registry.get("a->b")
    registry.force_open("a->b", "moving the database")
    clock.advance(3600)
    with pytest.raises(CircuitOpenError):
        await succeed(edge)
    assert registry.snapshot()[0].reason == "moving the database"
    assert registry.snapshot()[0].retry_after is None
    registry.reset("a->b", "moved")
    await succeed(edge)
    assert [change.reason for change in registry.snapshot()[0].history] == [
        "moving the database",
        "moved",
    ]


def test_an_unknown_name_is_refused_with_the_names_that_exist():
    registry = Breakers(ManualClock())
    registry.get("a->b")
    with pytest.raises(
        UnknownBreaker,
        match="no circuit breaker `a->c` in this process; known: `a->b`",
    ):
        registry.force_open("a->c", "x")
    with pytest.raises(ValueError, match="needs a name"):
        registry.get("")
    with pytest.raises(ValueError, match="constant"):
        registry.get("x", Config(wait_duration_backoff_multiplier=2.0))


async def test_listeners_hear_every_breaker_and_a_broken_one_harms_no_call():
    heard: list[tuple[str, str]] = []

    class Counts(CoreEventListener):
        def on_state_change(self, *, name: str, old: State, new: State) -> None:
            heard.append((name, f"{old}->{new}"))

        def on_call(self, *, name: str, outcome: Outcome, duration: float) -> None:
            heard.append((name, outcome))

        def on_rejected(self, *, name: str) -> None:
            heard.append((name, "rejected"))

    class Broken(CoreEventListener):
        def on_call(self, *, name: str, outcome: Outcome, duration: float) -> None:
            raise RuntimeError("a metric that cannot be written")

    registry = Breakers(ManualClock())
    registry.subscribe(Broken())
    stop = registry.subscribe(Counts())
    edge = registry.get("a->b", Config(minimum_number_of_calls=1, window_type=WindowType.COUNT_BASED))
    await fail(edge)
    with pytest.raises(CircuitOpenError):
        await succeed(edge)
    assert heard == [
        ("a->b", "failure"),
        ("a->b", "closed->open"),
        ("a->b", "rejected"),
    ]
    stop()
    registry.reset("a->b", "test")
    await succeed(edge)
    assert len(heard) == 3


async def test_breakers_on_different_edges_do_not_share_fate():
    registry = Breakers(ManualClock())
    await open_it(registry.get("a->b"))
    await succeed(registry.get("a->c"))
    assert [seen.state for seen in registry.snapshot()] == [State.OPEN, State.CLOSED]


def test_the_process_has_one_registry():
    assert breakers() is breakers()
    assert breakers().get("only->once") is breakers().get("only->once")

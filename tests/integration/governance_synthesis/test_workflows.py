"""Workflows as rows, leases and steps: over a real database, with a carrier that dies when the test says so."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import JsonValue

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.governance_synthesis import NewPolicyCreation
from acgs1.core.clock import ManualClock
from acgs1.core.errors import ErrorItem
from acgs1.kit.db import Database, Store
from acgs1.kit.errors import DependencyUnavailable, IdempotencyMismatch, UpstreamRejected
from acgs1.kit.outbox import OUTBOX
from acgs1.kit.steps import Body, StepResult, Suspended
from acgs1.services.governance_synthesis.errors import (
    InstructionNotRead,
    NotTheStarter,
    WorkflowEnded,
    WorkflowNotFound,
)
from acgs1.services.governance_synthesis.jobs import tell_once
from acgs1.services.governance_synthesis.ports import Run, Waiting
from acgs1.services.governance_synthesis.repository import RunRepository
from acgs1.services.governance_synthesis.runs import WorkflowRuns

MIGRATIONS = Path(__file__).parents[3] / "src/acgs1/services/governance_synthesis/migrations"
INES = Identity(id="usr_ines", name="ines", roles=(Role.LEGISLATOR,))
OTHER = Identity(id="usr_other", name="other", roles=(Role.LEGISLATOR,))
ADMIN = Identity(id="usr_admin", name="admin", roles=(Role.ADMIN,))
REQUEST = NewPolicyCreation(name="parcels", instructions=("A rule.",))


class Recorded:
    """What survives of the carriers: the results of steps, by workflow."""

    def __init__(self) -> None:
        self.results: dict[str, dict[str, JsonValue]] = {}
        self.ended: set[str] = set()


class Carrier:
    """Carries workflows out as tasks of this process, over results that outlive it."""

    def __init__(self, recorded: Recorded, body: Body) -> None:
        self._recorded = recorded
        self._body = body
        self.active: set[str] = set()
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self, workflow_id: str) -> bool:
        if workflow_id in self._recorded.ended:
            return False
        self.active.add(workflow_id)
        self.tasks[workflow_id] = asyncio.create_task(self._carry_out(workflow_id))
        return True

    async def _carry_out(self, workflow_id: str) -> None:
        kept = self._recorded.results.setdefault(workflow_id, {})

        async def step(name: str, work: Callable[[], Awaitable[JsonValue]]) -> Any:
            if name not in kept:
                kept[name] = await work()
            return kept[name]

        try:
            await self._body(workflow_id, step)
            self._recorded.ended.add(workflow_id)
        except Suspended:
            pass
        finally:
            self.active.discard(workflow_id)

    async def suspend(self, workflow_id: str) -> None:
        task = self.tasks.get(workflow_id)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task])

    async def steps(self, workflow_id: str) -> list[StepResult]:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        return [StepResult(n, at, at, r) for n, r in self._recorded.results.get(workflow_id, {}).items()]

    async def close(self) -> None:
        for workflow_id in list(self.tasks):
            await self.suspend(workflow_id)


class Creation:
    """Two steps; the second does what the test says."""

    def __init__(self) -> None:
        self.first = 0
        self.second: list[Exception | None] = []

    async def run(self, workflow_id: str, request: NewPolicyCreation, starter: Identity, step: Any) -> str:
        assert (request, starter) == (REQUEST, INES)

        async def first() -> JsonValue:
            self.first += 1
            return {"draft": "drf_1"}

        async def second() -> JsonValue:
            outcome = self.second.pop(0) if self.second else None
            if outcome is not None:
                raise outcome
            return {"bundle": "b" * 64}

        await step("first", first)
        await step("second", second)
        return "activated"


class Process:
    """One process of the service."""

    def __init__(self, room: "Room", name: str) -> None:
        def carrier(body: Body) -> Carrier:
            self.carrier = Carrier(room.recorded, body)
            return self.carrier

        self.announced: list[str] = []
        self.runs = WorkflowRuns(
            room.store, carrier, room.creation, room.clock, name, self.announced.append, room.pause  # pyright: ignore[reportArgumentType]
        )  # fmt: skip

    async def settle(self) -> None:
        """Until nothing runs here."""
        if self.carrier.tasks:
            await asyncio.wait(self.carrier.tasks.values())

    async def kill(self) -> None:
        for task in self.carrier.tasks.values():
            task.cancel()
        await asyncio.wait(self.carrier.tasks.values())


class Room:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = Store(database, RunRepository)
        self.recorded = Recorded()
        self.creation = Creation()
        self.clock = ManualClock()
        self.pauses: list[float] = []
        self.paused = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.paused.set()
        await self.go.wait()

    async def events(self) -> list[tuple[str, str]]:
        async with self.database.reading() as session:
            events = (await session.scalars(sa.select(OUTBOX.c.event).order_by(OUTBOX.c.sequence))).all()
        return [(event["type"], event["actor"]) for event in events]


@pytest.fixture
async def room(tmp_path: Path) -> AsyncGenerator[Room]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'db.sqlite3'}")
    await database.migrate(MIGRATIONS)
    yield Room(database)
    await database.close()


async def test_a_started_workflow_runs_to_its_end_and_says_what_it_did(room: Room):
    process = Process(room, "one")
    started = await process.runs.start(REQUEST, INES, None)
    assert (started.status, started.steps, started.started_by) == ("running", [], INES.id)
    assert process.runs.wanted.is_set()
    await process.runs.tend()
    await process.settle()
    ended = await process.runs.get(started.id)
    assert (ended.status, ended.outcome, ended.request) == ("completed", "activated", REQUEST)
    assert [(s.name, s.result) for s in ended.steps] == [
        ("request", None), ("first", {"draft": "drf_1"}), ("second", {"bundle": "b" * 64}),
    ]  # fmt: skip
    assert await room.events() == [
        ("workflow.started", INES.id), ("workflow.completed", "governance_synthesis"),
    ]  # fmt: skip
    assert process.announced == [started.id]


async def test_the_same_key_is_the_same_workflow_and_no_other_request(room: Room):
    runs = Process(room, "one").runs
    first = await runs.start(REQUEST, INES, "key")
    assert (await runs.start(REQUEST, INES, "key")).id == first.id
    with pytest.raises(IdempotencyMismatch, match=first.id):
        await runs.start(REQUEST.model_copy(update={"name": "other"}), INES, "key")
    assert (await runs.start(REQUEST, OTHER, "key")).id != first.id
    assert len(await room.events()) == 2


async def test_another_process_takes_over_when_the_lease_has_lapsed_and_not_before(room: Room):
    room.go.clear()
    room.creation.second = [Waiting("a vote")]
    one, two = Process(room, "one"), Process(room, "two")
    workflow = await one.runs.start(REQUEST, INES, None)
    await one.runs.tend()
    await asyncio.wait_for(room.paused.wait(), 10)
    room.clock.advance(9)
    await two.runs.tend()
    assert not two.carrier.tasks
    await one.runs.tend()
    room.clock.advance(9)
    await two.runs.tend()
    assert not two.carrier.tasks, "the lease was renewed"
    await one.kill()
    room.clock.advance(2)
    room.go.set()
    await two.runs.tend()
    await two.settle()
    assert (await two.runs.get(workflow.id)).status == "completed"
    assert room.creation.first == 1, "what was done is not done again"


async def test_of_two_processes_that_find_it_at_once_one_takes_it(room: Room):
    one, two = Process(room, "one"), Process(room, "two")
    await one.runs.start(REQUEST, INES, None)
    await asyncio.gather(one.runs.tend(), two.runs.tend())
    assert len(one.carrier.tasks) + len(two.carrier.tasks) == 1
    await asyncio.gather(one.settle(), two.settle())


async def test_a_process_that_ends_in_order_leaves_its_workflows_to_the_next_at_once(room: Room):
    room.go.clear()
    room.creation.second = [Waiting("a vote")]
    one, two = Process(room, "one"), Process(room, "two")
    workflow = await one.runs.start(REQUEST, INES, None)
    await one.runs.tend()
    await asyncio.wait_for(room.paused.wait(), 10)
    await one.runs.stop()
    await one.runs.tend()
    await two.runs.tend()
    room.go.set()
    await two.settle()
    assert (await two.runs.get(workflow.id)).outcome == "activated"


async def test_what_passes_is_waited_for_and_shown(room: Room):
    room.go.clear()
    late = UpstreamRejected("soon", upstream="x", upstream_code="idempotency_in_progress", status=409)
    room.creation.second = [Waiting("a vote"), late, DependencyUnavailable("`auth` is away")]
    process = Process(room, "one")
    workflow = await process.runs.start(REQUEST, INES, None)
    await process.runs.tend()
    await asyncio.wait_for(room.paused.wait(), 10)
    shown = await process.runs.get(workflow.id)
    assert (shown.status, shown.step, shown.waiting_for) == ("running", "second", "a vote")
    room.go.set()
    await process.settle()
    ended = await process.runs.get(workflow.id)
    assert (ended.status, ended.waiting_for) == ("completed", None)
    assert room.pauses == [0.25, 0.375, 0.5625]


async def test_a_refusal_fails_it_with_the_reason_and_resuming_tries_that_step_again(room: Room):
    refusal = InstructionNotRead("one sentence", items=(ErrorItem("`A rule.`: no", "instruction-1"),))
    room.creation.second = [refusal]
    process = Process(room, "one")
    workflow = await process.runs.start(REQUEST, INES, None)
    await process.runs.tend()
    await process.settle()
    failed = await process.runs.get(workflow.id)
    assert (failed.status, failed.outcome) == ("failed", None)
    assert failed.problem is not None
    assert (failed.problem.step, failed.problem.code) == ("second", "instruction_not_read")
    assert failed.problem.errors[0].pointer == "instruction-1"
    await process.runs.tend()
    assert (await process.runs.get(workflow.id)).status == "failed", "nobody takes it up unasked"

    resumed = await process.runs.resume(workflow.id, INES)
    assert (resumed.status, resumed.problem) == ("running", None)
    await process.runs.tend()
    await process.settle()
    assert (await process.runs.get(workflow.id)).status == "completed"
    assert room.creation.first == 1
    kinds = [kind for kind, _ in await room.events()]
    assert kinds == ["workflow.started", "workflow.failed", "workflow.resumed", "workflow.completed"]


async def test_a_defect_fails_the_workflow_and_shows_nothing_of_its_inside(room: Room):
    room.creation.second = [KeyError("secret")]
    process = Process(room, "one")
    workflow = await process.runs.start(REQUEST, INES, None)
    await process.runs.tend()
    await process.settle()
    problem = (await process.runs.get(workflow.id)).problem
    assert problem is not None
    assert problem.code == "internal_error"
    assert "secret" not in problem.model_dump_json()


async def test_a_cancelled_workflow_stands_still_until_it_is_resumed(room: Room):
    room.go.clear()
    room.creation.second = [Waiting("a vote")]
    process = Process(room, "one")
    workflow = await process.runs.start(REQUEST, INES, None)
    await process.runs.tend()
    await asyncio.wait_for(room.paused.wait(), 10)
    cancelled = await process.runs.cancel(workflow.id, ADMIN)
    assert (cancelled.status, cancelled.waiting_for) == ("cancelled", None)
    room.go.set()
    room.clock.advance(60)
    await process.runs.tend()
    assert not process.carrier.active
    await process.runs.cancel(workflow.id, INES)
    await process.runs.resume(workflow.id, INES)
    await process.runs.tend()
    await process.settle()
    assert (await process.runs.get(workflow.id)).status == "completed"
    kinds = [event for event in await room.events() if event[0] == "workflow.cancelled"]
    assert kinds == [("workflow.cancelled", ADMIN.id)], "once"
    for change in (process.runs.cancel, process.runs.resume):
        with pytest.raises(WorkflowEnded):
            await change(workflow.id, INES)


async def test_only_the_starter_or_an_administrator_changes_it(room: Room):
    runs = Process(room, "one").runs
    workflow = await runs.start(REQUEST, INES, None)
    for change in (runs.cancel, runs.resume):
        with pytest.raises(NotTheStarter):
            await change(workflow.id, OTHER)
        with pytest.raises(WorkflowNotFound):
            await change("wfl_none", INES)


async def test_a_step_that_begins_after_the_cancellation_does_nothing(room: Room):
    process = Process(room, "one")
    workflow = await process.runs.start(REQUEST, INES, None)
    async with room.store.transaction() as records:
        assert await records.cancel(workflow.id, room.clock.now())
    # The carrier has not heard of it, as when the process was killed between the two.
    await process.carrier.run(workflow.id)
    await process.settle()
    assert room.creation.first == 0


async def test_an_end_that_the_row_has_not_heard_of_is_taken_from_the_steps(room: Room):
    one = Process(room, "one")
    workflow = await one.runs.start(REQUEST, INES, None)
    await one.runs.tend()
    await one.settle()
    async with room.database.transaction() as session:
        # A backup of the row that is older than that of the steps.
        await session.execute(sa.text("UPDATE workflows SET status = 'running', outcome = NULL, steps = NULL"))
    two = Process(room, "two")
    room.clock.advance(60)
    await two.runs.tend()
    ended = await two.runs.get(workflow.id)
    assert (ended.status, ended.outcome) == ("completed", "activated")


class Monitor:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.away = False

    def running(self, run_id: str) -> None:
        raise AssertionError("not its job")

    async def ended(self, run: Run) -> None:
        if self.away:
            raise DependencyUnavailable("`console` is away")
        self.heard.append((run.id, run.status))


async def test_the_monitor_hears_of_each_end_once_also_when_it_was_away(room: Room):
    room.creation.second = [InstructionNotRead("no")]
    process, monitor = Process(room, "one"), Monitor()
    workflow = await process.runs.start(REQUEST, INES, None)
    await tell_once(room.store, monitor)
    assert not monitor.heard
    await process.runs.tend()
    await process.settle()
    monitor.away = True
    with pytest.raises(DependencyUnavailable):
        await tell_once(room.store, monitor)
    monitor.away = False
    await tell_once(room.store, monitor)
    await tell_once(room.store, monitor)
    await process.runs.resume(workflow.id, INES)
    await process.runs.tend()
    await process.settle()
    await tell_once(room.store, monitor)
    assert monitor.heard == [(workflow.id, "failed"), (workflow.id, "completed")]


async def test_lists_are_newest_first_and_by_status(room: Room):
    process = Process(room, "one")
    first = await process.runs.start(REQUEST, INES, None)
    second = await process.runs.start(REQUEST, INES, None)
    await process.runs.cancel(first.id, INES)
    page = await process.runs.page(None, None, 1)
    assert [w.id for w in page.items] == [second.id]
    rest = await process.runs.page(None, page.next_cursor, 10)
    assert [w.id for w in rest.items] == [first.id]
    assert [w.id for w in (await process.runs.page("cancelled", None, 10)).items] == [first.id]

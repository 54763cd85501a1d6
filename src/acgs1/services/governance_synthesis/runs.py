"""Workflows as people see them, and as processes take them up: started, followed, cancelled, resumed, and carried out by one at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import structlog
from pydantic import JsonValue

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.common import Page, ProblemItem
from acgs1.contracts.events import Event, new_event
from acgs1.contracts.governance_synthesis import (
    NewPolicyCreation,
    Workflow,
    WorkflowProblem,
    WorkflowStatus,
    WorkflowStep,
    WorkflowSummary,
)
from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.core.hashing import content_hash
from acgs1.core.ids import new_id
from acgs1.kit.errors import DependencyUnavailable, IdempotencyInProgress, IdempotencyMismatch, UpstreamRejected
from acgs1.kit.steps import Body, StepResult, Suspended
from acgs1.services.governance_synthesis.creation import PolicyCreation
from acgs1.services.governance_synthesis.errors import NotTheStarter, WorkflowEnded, WorkflowNotFound
from acgs1.services.governance_synthesis.ports import Run, Runs, Waiting

_log = structlog.get_logger()

_LEASE: Final = timedelta(seconds=10)
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 10.0
_CONCLUSION: Final = "conclusion"
# What another part says when it would say something else a little later.
_PASSING: Final = frozenset(
    {
        "dependency_unavailable",
        "idempotency_in_progress",
        "ledger_transaction_expired",
        "ledger_transaction_uncertain",
        "ledger_unavailable",
        "prover_unavailable",
        "token_expired",
        "unauthenticated",
    }
)


class Carrier(Protocol):
    """What carries workflows out and keeps the results of their steps (`acgs1.kit.workflows.Engine`)."""

    active: set[str]

    async def run(self, workflow_id: str) -> bool: ...
    async def suspend(self, workflow_id: str) -> None: ...
    async def steps(self, workflow_id: str) -> list[StepResult]: ...
    async def close(self) -> None: ...


class WorkflowRuns:
    """The workflows of this service.

    INVARIANT: the database row says whether a workflow runs. The carrier follows it: each step looks at the row first, and a workflow whose
    row runs and that nobody carries out is taken up by whichever process first finds its lease lapsed.
    """

    def __init__(
        self,
        store: Runs,
        carrier: Callable[[Body], Carrier],
        creation: PolicyCreation,
        clock: Clock,
        owner: str,
        running: Callable[[str], None],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._creation = creation
        self._clock = clock
        self._owner = owner
        self._running = running
        self._pause = pause
        self.carrier = carrier(self.carry_out)
        self._stopping = False
        self.wanted = asyncio.Event()
        """Set when there is a workflow that nobody carries out yet."""

    # --- for people ---

    async def start(self, request: NewPolicyCreation, by: Identity, key: str | None) -> Workflow:
        """A workflow that runs from now on. With `key`, the starter's repeat is the same workflow; raises IdempotencyMismatch when the key
        stands for another request."""
        run = Run(
            id=new_id("wfl"),
            key=key or new_id("idk"),
            request=request,
            starter=by,
            status="running",
            step=None,
            waiting_for=None,
            outcome=None,
            problem=None,
            started_at=self._clock.now(),
            finished_at=None,
        )
        async with self._store.transaction() as records:
            known = await records.by_key(by.id, run.key)
            if known is None:
                await records.add(run)
                digest = content_hash(request.model_dump(mode="json"))
                await records.record(self._event("workflow.started", by.id, run.id, request=digest))
        if known is not None:
            if known.request != request:
                raise IdempotencyMismatch(f"`{run.key}` started `{known.id}` with another request; use a fresh key")
            return await self.get(known.id)
        self.wanted.set()
        return await self.get(run.id)

    async def get(self, run_id: str) -> Workflow:
        """Raises WorkflowNotFound."""
        run = await self._existing(run_id)
        steps = run.steps
        if steps is None:
            steps = [_kept(step) for step in await self.carrier.steps(run_id)] if run.step is not None else []
        return Workflow(**_summary(run).model_dump(), request=run.request, steps=steps, problem=run.problem)

    async def page(self, status: WorkflowStatus | None, cursor: str | None, limit: int) -> Page[WorkflowSummary]:
        async with self._store.reading() as records:
            runs, following = await records.page(status, cursor, limit)
        return Page[WorkflowSummary](items=[_summary(run) for run in runs], next_cursor=following)

    async def cancel(self, run_id: str, by: Identity) -> Workflow:
        """Stop it where it is. What its steps have done stays done: a proposal stays open, an activated bundle active.

        Raises WorkflowNotFound, NotTheStarter, WorkflowEnded.
        """
        await self._expect_changeable(run_id, by)
        async with self._store.transaction() as records:
            if await records.cancel(run_id, self._clock.now()):
                await records.record(self._event("workflow.cancelled", by.id, run_id))
        await self.carrier.suspend(run_id)
        return await self.get(run_id)

    async def resume(self, run_id: str, by: Identity) -> Workflow:
        """Go on with one that failed or was cancelled, from its last step that is done; one that runs goes on running.

        Raises WorkflowNotFound, NotTheStarter, WorkflowEnded.
        """
        await self._expect_changeable(run_id, by)
        async with self._store.transaction() as records:
            if await records.reopen(run_id):
                await records.record(self._event("workflow.resumed", by.id, run_id))
        self.wanted.set()
        return await self.get(run_id)

    async def _expect_changeable(self, run_id: str, by: Identity) -> None:
        run = await self._existing(run_id)
        if by.id != run.starter.id and Role.ADMIN not in by.roles:
            raise NotTheStarter(f"`{run_id}` was started by `{run.starter.name}`")
        if run.status == "completed":
            raise WorkflowEnded(f"`{run_id}` has ended: {run.outcome}")

    async def _existing(self, run_id: str) -> Run:
        async with self._store.reading() as records:
            run = await records.get(run_id)
        if run is None:
            raise WorkflowNotFound(f"`{run_id}` is not a workflow here")
        return run

    # --- for the process ---

    async def tend(self) -> None:
        """Renew the leases of what is carried out here, and take up what nobody carries out. To be called every few seconds, well within
        the ten for which a lease lasts."""
        if self._stopping:
            return
        now = self._clock.now()
        here = set(self.carrier.active)
        async with self._store.reading() as records:
            lapsed = [run_id for run_id in await records.lapsed(now) if run_id not in here]
        claimed: list[str] = []
        if here or lapsed:
            async with self._store.transaction() as records:
                await records.renew(here, self._owner, now + _LEASE)
                claimed = [r for r in lapsed if await records.claim(r, self._owner, now, now + _LEASE)]
        for run_id in claimed:
            self._running(run_id)
            if not await self.carrier.run(run_id):
                await self._settle(run_id)

    async def stop(self) -> None:
        """At the end of the process: workflows stand still here, and others need not wait for the leases to lapse."""
        self._stopping = True
        await self.carrier.close()
        async with self._store.transaction() as records:
            await records.release(self._owner)

    async def carry_out(self, run_id: str, durable: Callable[[str, Any], Awaitable[Any]]) -> None:
        """The body of every workflow."""

        async def step(name: str, work: Callable[[], Awaitable[JsonValue]]) -> Any:
            return await durable(name, lambda: self._attempt(run_id, name, work))

        async def asked() -> JsonValue:
            run = await self._existing(run_id)
            return {"request": run.request.model_dump(mode="json"), "starter": run.starter.model_dump(mode="json")}

        begun = await step("request", asked)
        request = NewPolicyCreation.model_validate(begun["request"])
        starter = Identity.model_validate(begun["starter"])
        outcome = await self._creation.run(run_id, request, starter, step)
        await step(_CONCLUSION, lambda: self._conclude(run_id, outcome))

    async def _attempt(self, run_id: str, name: str, work: Callable[[], Awaitable[JsonValue]]) -> JsonValue:
        """Until it is done, or somebody or something stops the workflow."""
        async with self._store.transaction() as records:
            running = await records.enter(run_id, name, self._owner, self._clock.now() + _LEASE)
        noted, pause = "", _FIRST_PAUSE
        while running:
            try:
                return await work()
            except Waiting as reason:
                waiting_for = str(reason)
            except DomainError as error:
                if not _passes(error):
                    return await self._fail(run_id, _problem(name, error))
                waiting_for = error.detail
            except Exception as error:  # noqa: BLE001 - a defect ends this workflow, not the others; resuming tries again
                _log.error("workflow_step_failed", workflow=run_id, step=name, exc_info=error)
                detail = "the service failed; the error has been logged under the workflow's id"
                return await self._fail(run_id, WorkflowProblem(step=name, code="internal_error", detail=detail))
            if waiting_for != noted:
                async with self._store.transaction() as records:
                    running = await records.note(run_id, waiting_for[:2000])
                noted = waiting_for
            await self._pause(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        await self.carrier.suspend(run_id)
        raise Suspended(run_id)

    async def _fail(self, run_id: str, problem: WorkflowProblem) -> JsonValue:
        async with self._store.transaction() as records:
            if await records.fail(run_id, self._clock.now(), problem):
                data = {"step": problem.step, "code": problem.code}
                await records.record(self._event("workflow.failed", "governance_synthesis", run_id, **data))
        await self.carrier.suspend(run_id)
        raise Suspended(run_id)

    async def _conclude(self, run_id: str, outcome: str) -> JsonValue:
        await self._complete(run_id, outcome)
        return {"outcome": outcome}

    async def _complete(self, run_id: str, outcome: str) -> None:
        steps = [_kept(step) for step in await self.carrier.steps(run_id)]
        async with self._store.transaction() as records:
            if await records.complete(run_id, self._clock.now(), outcome, steps):
                data = _evidence_of(steps)
                await records.record(
                    self._event("workflow.completed", "governance_synthesis", run_id, outcome=outcome, **data)
                )

    async def _settle(self, run_id: str) -> None:
        """The carrier knows it as ended and the row does not, as after a restored backup: the carrier's word stands."""
        conclusion = next((s.result for s in await self.carrier.steps(run_id) if s.name == _CONCLUSION), None)
        if isinstance(conclusion, dict) and isinstance(outcome := conclusion.get("outcome"), str):
            await self._complete(run_id, outcome)
            return
        detail = "its steps are recorded as ended without a conclusion; start a new workflow"
        async with self._store.transaction() as records:
            problem = WorkflowProblem(step=_CONCLUSION, code="internal_error", detail=detail)
            await records.fail(run_id, self._clock.now(), problem)

    def _event(self, kind: str, actor: str, run_id: str, **data: JsonValue) -> Event:
        return new_event("governance_synthesis", kind, self._clock.now(), actor=actor, subject=run_id, **data)


def seconds_of(run: Run, now: datetime) -> float:
    """From the start to the end, or until now."""
    return max(0.0, ((run.finished_at or now) - run.started_at).total_seconds())


def _summary(run: Run) -> WorkflowSummary:
    return WorkflowSummary(
        id=run.id,
        name=run.request.name,
        status=run.status,
        step=run.step,
        waiting_for=run.waiting_for,
        outcome="activated" if run.outcome == "activated" else "rejected" if run.outcome == "rejected" else None,
        started_by=run.starter.id,
        started_at=run.started_at,
        finished_at=run.finished_at,
    )


def _kept(step: StepResult) -> WorkflowStep:
    # The request is the workflow's own already.
    result = None if step.name == "request" else step.result
    return WorkflowStep(name=step.name, started_at=step.started_at, finished_at=step.finished_at, result=result)


def _evidence_of(steps: list[WorkflowStep]) -> dict[str, JsonValue]:
    """What ties the workflow to what it brought about: hashes and ids that other entries of the log carry."""
    names = ("constitution", "draft", "policies_hash", "certificate", "bundle", "proposal", "event")
    found: dict[str, JsonValue] = {}
    for step in steps:
        if isinstance(step.result, dict):
            found |= {name: step.result[name] for name in names if step.result.get(name) is not None}
    return found


def _passes(error: DomainError) -> bool:
    if isinstance(error, UpstreamRejected):
        return error.upstream_code in _PASSING or error.status == 429
    return isinstance(error, DependencyUnavailable | IdempotencyInProgress)


def _problem(step: str, error: DomainError) -> WorkflowProblem:
    items = [ProblemItem(detail=i.detail, pointer=i.pointer, line=i.line, column=i.column) for i in error.items]
    code = error.upstream_code if isinstance(error, UpstreamRejected) else error.code
    return WorkflowProblem(step=step, code=code, detail=error.detail, errors=items)

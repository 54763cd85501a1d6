"""Use cases beside verification: comparisons, questions, checks of policies and constitutions, as jobs where they take long."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import structlog

from acgs1.contracts.auth import Identity
from acgs1.contracts.common import Message
from acgs1.contracts.formal_verification import (
    AnalysisOutcome,
    Answer,
    Comparison,
    EnvironmentChange,
    Findings,
    VerificationProgress,
)
from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.core.ids import new_id
from acgs1.services.formal_verification.domain import (
    Job,
    JobKind,
    Plan,
    StoredAnalysis,
    answer_of,
    constitution_outcome,
    hygiene_outcome,
    overall_change,
)
from acgs1.services.formal_verification.errors import AnalysisNotFound
from acgs1.services.formal_verification.ports import Archive, Prover

_log = structlog.get_logger()

_KEEP_AFTER = 1.0
"""Seconds; what takes longer is kept, so that it outlives this process."""
_SECONDS = 600.0
"""What could not be found out by then is `unknown` in the result."""


@dataclass
class _Running:
    """An analysis that this process is working on."""

    task: asyncio.Task[AnalysisOutcome]
    total: int
    done: int = 0
    kept: bool = False
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def advance(self) -> None:
        self.done += 1
        # Whoever watches waits on the event that it saw last.
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()


class Analyses:
    """Jobs whose result is no certificate."""

    def __init__(self, archive: Archive, prover: Prover, clock: Clock) -> None:
        self._archive = archive
        self._prover = prover
        self._clock = clock
        self._running: dict[str, _Running] = {}

    async def analyze(
        self, kind: JobKind, request: Message, by: Identity, wait_seconds: float
    ) -> AnalysisOutcome | VerificationProgress:
        """Begins an analysis and waits up to `wait_seconds` for its result.

        Raises InvalidPolicies, InvalidConstitution, TooManyObligations, ProverUnavailable; then nothing was begun.
        """
        analysis = StoredAnalysis(
            id=new_id("ana"),
            kind=kind,
            input=request.model_dump(mode="json"),
            status="running",
            requested_by=by.id,
            created_at=self._clock.now(),
        )
        plan = await self._prover.plan(_job(analysis))
        running = self._begin(analysis, plan)
        await asyncio.wait([running.task], timeout=min(wait_seconds, _KEEP_AFTER))
        if not running.task.done():
            running.kept = True
            async with self._archive.transaction() as records:
                await records.add_analysis(analysis)
            await asyncio.wait([running.task], timeout=max(0.0, wait_seconds - _KEEP_AFTER))
        if not running.task.done():
            return _progress(analysis.id, running)
        try:
            outcome = await running.task
        except DomainError as error:
            if running.kept:
                await self._fail(analysis.id, error.detail)
            raise
        if running.kept:
            # It may have ended while it was being kept.
            await self._finish(analysis.id, outcome)
        return outcome

    async def analysis(self, analysis_id: str, wait_seconds: float = 0.0) -> AnalysisOutcome | VerificationProgress:
        """The result, once there is one; until then how far it is. Raises AnalysisNotFound."""
        running = self._running.get(analysis_id)
        if running is not None:
            await asyncio.wait([running.task], timeout=wait_seconds)
            if not running.task.done():
                return _progress(analysis_id, running)
            if not running.task.cancelled() and running.task.exception() is None:
                return running.task.result()
        async with self._archive.reading() as records:
            stored = await records.analysis(analysis_id)
        if stored is None:
            raise AnalysisNotFound(
                f"`{analysis_id}` is not an analysis here; one that took less than a second is not kept"
            )
        if stored.result is not None:
            return outcome_of(stored.kind, stored.result)
        status = "running" if stored.status == "done" else stored.status
        return VerificationProgress(
            id=analysis_id, status=status, obligations_done=0, obligations_total=0, detail=stored.detail
        )

    async def progress(self, analysis_id: str) -> AsyncGenerator[AnalysisOutcome | VerificationProgress]:
        """How far it is, whenever that changes; at last the outcome. Raises AnalysisNotFound."""
        while True:
            outcome = await self.analysis(analysis_id)
            yield outcome
            running = self._running.get(analysis_id)
            if not isinstance(outcome, VerificationProgress) or outcome.status != "running":
                return
            if running is None:
                # It ended between the two looks.
                yield await self.analysis(analysis_id)
                return
            moved = asyncio.ensure_future(running.moved.wait())
            try:
                await asyncio.wait([moved, running.task], return_when=asyncio.FIRST_COMPLETED)
            finally:
                moved.cancel()

    async def cancel(self, analysis_id: str, by: Identity) -> AnalysisOutcome | VerificationProgress:
        """Stops a running analysis; one that has ended stays as it is. Raises AnalysisNotFound."""
        running = self._running.get(analysis_id)
        if running is not None and running.kept and running.task.cancel():
            await asyncio.wait([running.task])
            if running.task.cancelled():
                async with self._archive.transaction() as records:
                    detail = f"cancelled by `{by.id}`"
                    await records.finish_analysis(analysis_id, "cancelled", self._clock.now(), detail=detail)
        return await self.analysis(analysis_id)

    async def resume(self) -> None:
        """Takes up again what was running when the process last ended."""
        async with self._archive.reading() as records:
            interrupted = await records.running_analyses()
        for analysis in interrupted:
            if analysis.id in self._running:
                continue
            try:
                plan = await self._prover.plan(_job(analysis))
            except DomainError as error:
                await self._fail(analysis.id, error.detail)
                continue
            self._begin(analysis, plan).kept = True

    async def stop(self) -> None:
        """Stops working, without ending anything: `resume` goes on from here."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, analysis: StoredAnalysis, plan: Plan) -> _Running:
        task = asyncio.create_task(self._carry_out(analysis, plan), name=analysis.id)
        running = self._running[analysis.id] = _Running(task, len(plan.items))
        task.add_done_callback(lambda ended: self._ended(analysis.id, ended))
        return running

    def _ended(self, analysis_id: str, task: asyncio.Task[AnalysisOutcome]) -> None:
        self._running.pop(analysis_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Taken note of here, for one that nobody waits for any more.
            _log.error("analysis_failed", analysis=analysis_id, exc_info=error)

    async def _carry_out(self, analysis: StoredAnalysis, plan: Plan) -> AnalysisOutcome:
        results: dict[int, dict[str, Any]] = {}
        indices = [item.index for item in plan.items]
        try:
            async with aclosing(self._prover.run(_job(analysis), plan, indices, _SECONDS)) as answers:
                async for index, result in answers:
                    results[index] = result
                    self._running[analysis.id].advance()
        except Exception as error:
            if self._running[analysis.id].kept:
                reason = (
                    error.detail if isinstance(error, DomainError) else "the service failed; the error is in its log"
                )
                await self._fail(analysis.id, reason)
            raise
        outcome = _OUTCOMES[analysis.kind]([results[index] for index in indices])
        if self._running[analysis.id].kept:
            await self._finish(analysis.id, outcome)
        return outcome

    async def _finish(self, analysis_id: str, outcome: AnalysisOutcome) -> None:
        async with self._archive.transaction() as records:
            result = outcome.model_dump(mode="json")
            await records.finish_analysis(analysis_id, "done", self._clock.now(), result=result)

    async def _fail(self, analysis_id: str, detail: str) -> None:
        async with self._archive.transaction() as records:
            await records.finish_analysis(analysis_id, "failed", self._clock.now(), detail=detail)


def _job(analysis: StoredAnalysis) -> Job:
    return Job(analysis.id, analysis.kind, analysis.input)


def _progress(analysis_id: str, running: _Running) -> VerificationProgress:
    return VerificationProgress(
        id=analysis_id, status="running", obligations_done=running.done, obligations_total=running.total
    )


def outcome_of(kind: JobKind, result: dict[str, Any]) -> AnalysisOutcome:
    """A kept result as what it was."""
    types: dict[JobKind, type[AnalysisOutcome]] = {"compare": Comparison, "question": Answer}
    return types.get(kind, Findings).model_validate(result)


def _comparison(results: list[dict[str, Any]]) -> Comparison:
    environments = [EnvironmentChange.model_validate(result) for result in results]
    return Comparison(change=overall_change(e.change for e in environments), environments=environments)


_OUTCOMES: dict[JobKind, Callable[[list[dict[str, Any]]], AnalysisOutcome]] = {
    "compare": _comparison,
    "question": answer_of,
    "hygiene": hygiene_outcome,
    "constitution": constitution_outcome,
}

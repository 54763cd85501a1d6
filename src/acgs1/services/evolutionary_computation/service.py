"""Use cases: starting a run, carrying it out, looking at it."""

import asyncio
from collections.abc import Generator

import structlog
from pydantic import JsonValue

from acgs1.contracts.auth import Identity
from acgs1.contracts.common import Page
from acgs1.contracts.events import Event, new_event
from acgs1.contracts.evolutionary_computation import Candidate, NewRun, Oversight, Run
from acgs1.core.clock import Clock
from acgs1.core.errors import DomainError
from acgs1.core.hashing import text_hash
from acgs1.core.ids import new_id
from acgs1.kit.reporting import workflow_runs
from acgs1.services.evolutionary_computation.domain.oversight import oversight_of
from acgs1.services.evolutionary_computation.domain.search import (
    Scores,
    evolution,
    exhaustive,
    generations_within,
    method_for,
    ranked,
)
from acgs1.services.evolutionary_computation.domain.space import Genome
from acgs1.services.evolutionary_computation.errors import RunNotFound, TooManyRuns
from acgs1.services.evolutionary_computation.ports import Bench, Experiment, Overseer, Runs, Verifier

_log = structlog.get_logger()

MAX_WAITING = 32
MAX_VERIFICATIONS = 64


class EvolutionService:
    """All of evolutionary_computation. `wake` is set when there is a run to carry out."""

    def __init__(self, store: Runs, bench: Bench, verifier: Verifier, overseer: Overseer, clock: Clock) -> None:
        self._store = store
        self._bench = bench
        self._verifier = verifier
        self._overseer = overseer
        self._clock = clock
        self.wake = asyncio.Event()
        self._changed = asyncio.Condition()

    async def start(self, request: NewRun, by: Identity) -> Run:
        """A run that is `running` from now on, whatever happens to this process.

        Raises TunableRefused, PoliciesRefused, OutcomeRefused, TooManyRuns.
        """
        experiment = await self._bench.prepare(request)
        baseline = tuple(axis.baseline for axis in experiment.axes)
        (agreement,) = await experiment.scores([baseline])
        run = Run(
            id=new_id("run"),
            status="running",
            method=None,
            baseline=dict(zip(experiment.names, baseline, strict=True)),
            baseline_agreement=agreement,
            best=None,
            oversight=None,
            refuted_candidates=0,
            unproved_candidates=0,
            evaluations=0,
            generations=0,
            outcomes=len(request.outcomes),
            seed=request.seed,
            detail=None,
            started_by=by.id,
            created_at=self._clock.now(),
            finished_at=None,
        )
        async with self._store.transaction() as records:
            if await records.count_running() >= MAX_WAITING:
                raise TooManyRuns(f"{MAX_WAITING} runs are waiting; start another when some have finished")
            await records.add(run, request)
            await records.record(
                self._event(
                    "run.started",
                    by.id,
                    run,
                    policies_hash=text_hash(request.policies),
                    constitution_hash=request.constitution.hash,
                    thresholds=[*sorted(run.baseline)],
                    outcomes=run.outcomes,
                    seed=run.seed,
                )
            )
        self.wake.set()
        return run

    async def carry_out_next(self) -> bool:
        """Carry out the oldest run that is `running`, from its beginning; False when there is none.

        A run is a function of its request, so one that was cut off by a restart comes to the same candidates again.
        """
        async with self._store.reading() as records:
            found = await records.oldest_running()
        if found is None:
            return False
        run, request = found
        try:
            finished = await self._outcome(run, request)
        except DomainError as error:
            finished = run.model_copy(update={"status": "failed", "detail": f"{error.code}: {error.detail}"})
        except Exception as error:  # noqa: BLE001 - a run that breaks this service must not do so again after every restart
            _log.error("run_failed", run_id=run.id, exc_info=error)
            detail = "internal_error: the fault has been logged under this run's id"
            finished = run.model_copy(update={"status": "failed", "detail": detail})
        await self._finish(finished, request)
        return True

    async def get(self, run_id: str, wait_seconds: float = 0.0) -> Run:
        """The run, after waiting up to `wait_seconds` for it to finish."""

        async def settled() -> Run:
            async with self._changed:
                while (run := await self._existing(run_id)).status == "running":
                    await self._changed.wait()
                return run

        if wait_seconds <= 0:
            return await self._existing(run_id)
        try:
            return await asyncio.wait_for(settled(), wait_seconds)
        except TimeoutError:
            return await self._existing(run_id)

    async def runs(self, cursor: str | None, limit: int) -> Page[Run]:
        async with self._store.reading() as records:
            items, following = await records.page(cursor, limit)
        return Page[Run](items=items, next_cursor=following)

    async def _outcome(self, run: Run, request: NewRun) -> Run:
        experiment = await self._bench.prepare(request)
        method = method_for(experiment.axes, run.outcomes)
        generations = 1 if method == "exhaustive" else generations_within(request.generations, run.outcomes)
        search = (
            exhaustive(experiment.axes)
            if method == "exhaustive"
            else evolution(experiment.axes, request.seed, generations)
        )
        scores = await _scored(search, experiment)
        candidates = ranked(experiment.axes, scores, run.baseline_agreement, MAX_VERIFICATIONS)
        best, refuted, unproved = await self._first_proved(run, request, experiment, candidates)
        oversight = None if best is None else await self._overseen(request, best)
        detail = _detail(run, best, oversight, len(candidates))
        return run.model_copy(
            update={
                "status": "done",
                "method": method,
                "best": best if oversight is not None and oversight.outcome == "approved" else None,
                "oversight": oversight,
                "refuted_candidates": refuted,
                "unproved_candidates": unproved,
                "evaluations": len(scores),
                "generations": generations,
                "detail": detail,
            }
        )

    async def _first_proved(
        self, run: Run, request: NewRun, experiment: Experiment, candidates: list[tuple[Genome, float]]
    ) -> tuple[Candidate | None, int, int]:
        refuted = unproved = 0
        for genome, agreement in candidates:
            policies = experiment.policies(genome)
            digest = text_hash(policies)
            report = await self._verifier.verify(policies, request.constitution, f"{run.id}:{digest[:32]}")
            about_this = report.policies_hash == digest and report.constitution_hash == request.constitution.hash
            if report.verdict == "proved" and about_this and report.certificate_hash is not None:
                candidate = Candidate(
                    values=dict(zip(experiment.names, genome, strict=True)),
                    policies=policies,
                    policies_hash=digest,
                    agreement=agreement,
                    verdict="proved",
                    certificate_hash=report.certificate_hash,
                )
                return candidate, refuted, unproved
            if report.verdict == "refuted":
                refuted += 1
            else:
                unproved += 1
        return None, refuted, unproved

    async def _overseen(self, request: NewRun, candidate: Candidate) -> Oversight:
        """The workflow `wina_oversight`: it fails when it cannot be carried out; a finding is a result."""
        started = self._clock.monotonic()
        compliance: float | None = None
        try:
            oversight = oversight_of(candidate, await self._overseer.review(request, candidate))
            compliance = sum(check.finding is None for check in oversight.checks) / len(oversight.checks)
            return oversight
        finally:
            seconds = self._clock.monotonic() - started
            success = compliance is not None
            workflow_runs().finished("wina_oversight", seconds, success=success, compliance_score=compliance)

    async def _finish(self, run: Run, request: NewRun) -> None:
        now = self._clock.now()
        oversight = run.oversight
        event = self._event(
            "run.finished",
            run.started_by,
            run,
            status=run.status,
            refuted_candidates=run.refuted_candidates,
            unproved_candidates=run.unproved_candidates,
            baseline_policies_hash=text_hash(request.policies),
            best_policies_hash=run.best.policies_hash if run.best else None,
            best_certificate_hash=run.best.certificate_hash if run.best else None,
            oversight=oversight.outcome if oversight else None,
            overseen_policies_hash=oversight.policies_hash if oversight else None,
            oversight_findings=[check.name for check in oversight.checks if check.finding] if oversight else [],
        )
        async with self._store.transaction() as records:
            if await records.finish(run, now):
                await records.record(event)
        async with self._changed:
            self._changed.notify_all()

    async def _existing(self, run_id: str) -> Run:
        async with self._store.reading() as records:
            run = await records.get(run_id)
        if run is None:
            raise RunNotFound(f"`{run_id}` is not a run here")
        return run

    def _event(self, kind: str, actor: str, run: Run, **data: JsonValue) -> Event:
        return new_event("evolutionary_computation", kind, self._clock.now(), actor=actor, subject=run.id, **data)


async def _scored(search: Generator[list[Genome], list[float], Scores], experiment: Experiment) -> Scores:
    """Drive a search to its end: it asks for scores, the experiment tells."""
    try:
        asked = next(search)
        while True:
            asked = search.send(await experiment.scores(asked))
    except StopIteration as end:
        return end.value


def _detail(run: Run, best: Candidate | None, oversight: Oversight | None, tried: int) -> str:
    if oversight is not None and oversight.outcome == "withheld":
        findings = "; ".join(check.finding for check in oversight.checks if check.finding)
        return f"a proved candidate was withheld by the oversight: {findings}"
    if best is None:
        return f"none of the {tried} best candidates was proved; the baseline was not, either, if it was among them"
    if best.agreement <= run.baseline_agreement and best.values == run.baseline:
        return "nothing that agrees better with the labels was proved; the thresholds are as they were"
    return f"agreement {run.baseline_agreement:.4g} -> {best.agreement:.4g}"

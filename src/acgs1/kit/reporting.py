"""Tells the monitor every few seconds what this process does: counts, breakers, spans, workflow runs; does what it is told.

The process reports rather than being asked, so that each of several processes of one service is heard, and a monitor that
is away costs nobody a request: what could not be told is kept within bounds and told later.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from typing import Any, Final, TypeVar

import structlog
from prometheus_client import REGISTRY, Metric

from acgs1.contracts.monitoring import (
    MAX_RUNS,
    MAX_SPANS,
    FinishedRun,
    ProcessCounts,
    ProcessReport,
    ReportAnswer,
    ReportedBreaker,
    ReportedSpan,
    StartedRun,
    Traffic,
    WorkflowType,
)
from acgs1.core.clock import Clock, SystemClock
from acgs1.core.errors import DomainError
from acgs1.core.ids import new_id
from acgs1.kit.breaker import Breakers, State, UnknownBreaker, breakers
from acgs1.kit.telemetry import LATENCY_BUCKETS, OPERATIONS
from acgs1.kit.tracing import Recorder, recorder

_log = structlog.get_logger()

ENFORCEMENT_ROUTE: Final = "/access/v1/evaluation"
_WAITING: Final = 2000
_REMEMBERED: Final = 200

Send = Callable[[ProcessReport], Awaitable[ReportAnswer]]
T = TypeVar("T")


class WorkflowRuns:
    """Workflow runs that the monitor has not heard of: at most 2000 of each, the newest; recording one never waits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started: deque[StartedRun] = deque()
        self._finished: deque[FinishedRun] = deque()
        self.dropped = 0

    def started(self, workflow_type: WorkflowType, workflow_id: str) -> None:
        """A run began; it counts as stuck when no end is heard of within its target."""
        run = StartedRun(workflow_type=workflow_type, workflow_id=workflow_id, at=self._clock.now())
        self._add(self._started, run)

    def finished(
        self,
        workflow_type: WorkflowType,
        seconds: float,
        *,
        success: bool = True,
        compliance_score: float | None = None,
        workflow_id: str | None = None,
    ) -> None:
        """A run ended after `seconds`. `compliance_score` is between 0 and 1, None where nothing was scored."""
        run = FinishedRun(
            workflow_type=workflow_type,
            at=self._clock.now(),
            seconds=max(0.0, seconds),
            success=success,
            compliance_score=compliance_score,
            workflow_id=workflow_id,
        )
        self._add(self._finished, run)

    def waiting(self) -> tuple[list[StartedRun], list[FinishedRun]]:
        """The oldest that fit into one report."""
        return list(islice(self._started, MAX_RUNS)), list(islice(self._finished, MAX_RUNS))

    def told(self, started: int, finished: int) -> None:
        """The oldest so many have been delivered."""
        for queue, count in ((self._started, started), (self._finished, finished)):
            for _ in range(min(count, len(queue))):
                queue.popleft()

    def _add(self, queue: deque[T], run: T) -> None:
        if len(queue) >= _WAITING:
            queue.popleft()
            self.dropped += 1
        queue.append(run)


_runs: Final = WorkflowRuns(SystemClock())


def workflow_runs() -> WorkflowRuns:
    """The workflow runs of this process."""
    return _runs


class Reporter:
    """Reports every `interval` seconds, as `instance` of `service`, through `send`."""

    def __init__(
        self,
        service: str,
        send: Send,
        *,
        interval: float,
        known: Breakers | None = None,
        spans: Recorder | None = None,
        runs: WorkflowRuns | None = None,
    ) -> None:
        self._service = service
        self._send = send
        self._interval = interval
        self._breakers = known or breakers()
        self._spans = spans or recorder()
        self._runs = runs or workflow_runs()
        self._instance = new_id("prc")
        self._sequence = 0
        self._untold: ProcessReport | None = None
        self._forced: set[str] = set()
        self._done: deque[str] = deque(maxlen=_REMEMBERED)
        self._heard = True

    async def run(self) -> None:
        """Report until cancelled. A monitor that does not answer is logged once."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.report()
            except (DomainError, OSError) as error:
                if self._heard:
                    _log.info("monitor_away", error=type(error).__name__)
                self._heard = False
            else:
                self._heard = True

    async def report(self) -> None:
        """One report. Raises what `send` raises; the report is then repeated, as it was, before any newer one."""
        while True:
            report = self._untold or self._next()
            repeated = self._untold is not None
            self._untold = report
            answer = await self._send(report)
            self._untold = None
            self._obey(answer)
            if not repeated:
                return

    def _next(self) -> ProcessReport:
        self._sequence += 1
        started, finished = self._runs.waiting()
        report = ProcessReport(
            service=self._service,
            instance=self._instance,
            sequence=self._sequence,
            counts=process_counts(REGISTRY.collect()),
            bounds=list(LATENCY_BUCKETS),
            breakers=reported_breakers(self._breakers),
            spans=[ReportedSpan.model_validate(asdict(span)) for span in self._spans.drain(MAX_SPANS)],
            started=started,
            finished=finished,
            dropped=self._runs.dropped,
        )
        # From here on they are the report's, which is kept until it is delivered.
        self._runs.told(len(started), len(finished))
        return report

    def _obey(self, answer: ReportAnswer) -> None:
        """Bring the breakers to what the monitor wants: forced open where it says so, closed again where it no longer does."""
        wanted = {i.name: i.reason for i in answer.instructions if i.action == "open"}
        states = {seen.name: seen.state for seen in self._breakers.snapshot()}
        for name, reason in wanted.items():
            if states.get(name, State.FORCED_OPEN) is not State.FORCED_OPEN:
                self._breakers.force_open(name, reason)
                self._forced.add(name)
        for name in self._forced - set(wanted):
            self._breakers.reset(name, "no longer forced open by an operator")
        self._forced &= set(wanted)
        for instruction in answer.instructions:
            if instruction.action == "reset" and instruction.id not in self._done:
                self._done.append(instruction.id)
                with suppress(UnknownBreaker):
                    self._breakers.reset(instruction.name, instruction.reason)


def reported_breakers(known: Breakers) -> list[ReportedBreaker]:
    """The breakers of a process as they go over the wire."""
    return [ReportedBreaker.model_validate(asdict(seen)) for seen in known.snapshot()]


def process_counts(metrics: Iterable[Metric]) -> ProcessCounts:
    """The figures that objectives are judged by, from what `/metrics` shows."""
    everything, enforcement = _Sums(), _Sums()
    hits = waits = 0
    for metric in metrics:
        if metric.name == "acgs_cache_hits":
            hits += sum(int(s.value) for s in metric.samples if s.name.endswith("_total"))
        elif metric.name in {"acgs_cache_misses", "acgs_cache_joined"}:
            waits += sum(int(s.value) for s in metric.samples if s.name.endswith("_total"))
        elif metric.name in {"acgs_http_requests", "acgs_http_request_seconds"}:
            for sample in metric.samples:
                route = sample.labels.get("route", "")
                if not route.startswith(OPERATIONS):
                    everything.add(sample)
                    if route == ENFORCEMENT_ROUTE:
                        enforcement.add(sample)
    return ProcessCounts(
        traffic=everything.traffic(), enforcement=enforcement.traffic(), cache_hits=hits, cache_waits=waits
    )


class _Sums:
    def __init__(self) -> None:
        self._requests = self._errors = 0
        self._within = dict.fromkeys(LATENCY_BUCKETS, 0)

    def add(self, sample: Any) -> None:
        if sample.name == "acgs_http_requests_total":
            self._requests += int(sample.value)
            self._errors += int(sample.value) if sample.labels["status"].startswith("5") else 0
        elif sample.name == "acgs_http_request_seconds_bucket":
            bound = float(sample.labels["le"])
            if bound in self._within:
                self._within[bound] += int(sample.value)

    def traffic(self) -> Traffic:
        return Traffic(requests=self._requests, errors=self._errors, within=list(self._within.values()))

"""Governance workflows: how long they take, whether they succeed and comply, and which ones are stuck."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from acgs1.core.clock import Clock, SystemClock
from acgs1.core.errors import DomainError

TARGET_SECONDS: Final[dict[str, float]] = {
    "policy_creation": 24 * 3600.0,
    "constitutional_compliance": 0.100,
    "policy_enforcement": 0.200,
    "wina_oversight": 0.050,
    "audit_transparency": 3600.0,
}
"""The five workflows and the time in which each is to be done."""

COMPLIANCE_TARGET: Final = 0.99
TIMELINESS_TARGET: Final = 0.99
_WINDOW: Final = 10_000
_COUNTS: Final = 720


class UnknownWorkflow(DomainError):
    code = "unknown_workflow"
    title = "No such governance workflow"


class InvalidExecution(DomainError):
    code = "invalid_execution"
    title = "The workflow execution cannot have been like this"


@dataclass(frozen=True, slots=True)
class Execution:
    """One finished run. `compliance_score` is between 0 and 1, None where nothing was scored."""

    workflow_type: str
    finished_at: datetime
    seconds: float
    success: bool
    compliance_score: float | None


@dataclass(frozen=True, slots=True)
class Counted:
    """Runs that were counted rather than told one by one: `within` counts those within each of `bounds` seconds."""

    total: int
    failed: int
    bounds: tuple[float, ...]
    within: tuple[int, ...]

    def faster_than(self, seconds: float) -> int:
        """How many took at most `seconds`, for certain: up to the greatest bound that is not above it."""
        return max(
            (count for bound, count in zip(self.bounds, self.within, strict=True) if bound <= seconds), default=0
        )


@dataclass(frozen=True, slots=True)
class WorkflowReport:
    """What is known of one workflow type: over the last 10,000 runs at most, and over the last 720 counts where runs are
    counted; percentiles of counted runs are the upper bounds of their buckets. Fractions are None before the first run."""

    workflow_type: str
    target_seconds: float
    executions: int
    success_rate: float | None
    within_target: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None
    compliance: float | None
    running: int
    stuck: tuple[str, ...]
    compliant: bool | None
    """99 % of the runs succeeded, and scored 0.99 on average where scored."""
    timely: bool | None
    """99 % of the runs were done within the target."""


@dataclass(slots=True)
class _Type:
    runs: deque[Execution] = field(default_factory=lambda: deque[Execution](maxlen=_WINDOW))
    counted: deque[Counted] = field(default_factory=lambda: deque[Counted](maxlen=_COUNTS))
    running: dict[str, datetime] = field(default_factory=dict[str, datetime])


class GovernanceWorkflowMonitor:
    """Records workflow runs. A run that has gone on for longer than its target (at least a minute) is stuck."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._types = {name: _Type() for name in TARGET_SECONDS}

    def record_workflow_execution(
        self,
        workflow_type: str,
        execution_time: float,
        *,
        success: bool = True,
        compliance_score: float | None = None,
        workflow_id: str | None = None,
        finished_at: datetime | None = None,
    ) -> Execution:
        """Record a run of `execution_time` seconds, finished now unless told otherwise. Raises UnknownWorkflow or InvalidExecution."""
        known = self._type(workflow_type)
        if not execution_time >= 0:
            raise InvalidExecution(f"execution_time is in seconds and not negative: `{execution_time}`")
        if compliance_score is not None and not 0 <= compliance_score <= 1:
            raise InvalidExecution(f"compliance_score is between 0 and 1: `{compliance_score}`")
        execution = Execution(
            workflow_type, finished_at or self._clock.now(), execution_time, success, compliance_score
        )
        known.runs.append(execution)
        if workflow_id is not None:
            known.running.pop(workflow_id, None)
        return execution

    def workflow_started(self, workflow_type: str, workflow_id: str, at: datetime | None = None) -> None:
        """Watch a run, begun `at` (default: now), until it is recorded under the same `workflow_id`. Raises UnknownWorkflow."""
        self._type(workflow_type).running.setdefault(workflow_id, at or self._clock.now())

    def add_counted(self, workflow_type: str, counted: Counted) -> None:
        """Take in runs that were only counted. Raises UnknownWorkflow."""
        if counted.total:
            self._type(workflow_type).counted.append(counted)

    def report(self, workflow_type: str) -> WorkflowReport:
        """What is known of the type now. Raises UnknownWorkflow."""
        known = self._type(workflow_type)
        target = TARGET_SECONDS[workflow_type]
        runs, counted = list(known.runs), list(known.counted)
        total = len(runs) + sum(c.total for c in counted)
        fast = sum(run.seconds <= target for run in runs) + sum(c.faster_than(target) for c in counted)
        good = sum(run.success for run in runs) + sum(c.total - c.failed for c in counted)
        scores = [run.compliance_score for run in runs if run.compliance_score is not None]
        limit = self._clock.now() - timedelta(seconds=max(target, 60.0))
        within, success = (fast / total, good / total) if total else (None, None)
        compliance = sum(scores) / len(scores) if scores else None
        judged = [value >= COMPLIANCE_TARGET for value in (success, compliance) if value is not None]
        quantile = _quantiles(sorted(run.seconds for run in runs), counted)
        return WorkflowReport(
            workflow_type=workflow_type,
            target_seconds=target,
            executions=total,
            success_rate=success,
            within_target=within,
            p50_seconds=quantile(0.50),
            p95_seconds=quantile(0.95),
            p99_seconds=quantile(0.99),
            compliance=compliance,
            running=len(known.running),
            stuck=tuple(sorted(name for name, since in known.running.items() if since < limit)),
            compliant=all(judged) if judged else None,
            timely=within >= TIMELINESS_TARGET if within is not None else None,
        )

    def reports(self) -> list[WorkflowReport]:
        """One report per workflow type."""
        return [self.report(name) for name in TARGET_SECONDS]

    def restore(self, executions: list[Execution]) -> None:
        """Take in runs recorded earlier, oldest first."""
        for execution in executions:
            if execution.workflow_type in self._types:
                self._types[execution.workflow_type].runs.append(execution)

    def _type(self, workflow_type: str) -> _Type:
        try:
            return self._types[workflow_type]
        except KeyError:
            raise UnknownWorkflow(f"`{workflow_type}` is none of {', '.join(TARGET_SECONDS)}") from None


def percentile(ordered: list[float], fraction: float) -> float | None:
    """Nearest rank: the smallest value that at least `fraction` of all are not above. None of nothing."""
    if not ordered:
        return None
    rank = -(-len(ordered) * fraction // 1)
    return ordered[max(0, int(rank) - 1)]


def complies(execution: Execution) -> bool:
    """Whether one run did what is promised, however long it took: it succeeded, and scored well where it was scored."""
    return execution.success and (execution.compliance_score is None or execution.compliance_score >= COMPLIANCE_TARGET)


def timely(execution: Execution) -> bool:
    """Whether one run was done within its workflow's target."""
    return execution.seconds <= TARGET_SECONDS[execution.workflow_type]


def _quantiles(ordered: list[float], counted: list[Counted]) -> Callable[[float], float | None]:
    if not counted:
        return lambda fraction: percentile(ordered, fraction)
    bounds = sorted({bound for c in counted for bound in c.bounds})
    total = len(ordered) + sum(c.total for c in counted)

    def quantile(fraction: float) -> float | None:
        for bound in bounds:
            below = bisect_right(ordered, bound) + sum(c.faster_than(bound) for c in counted)
            if below >= fraction * total:
                return bound
        return None

    return quantile

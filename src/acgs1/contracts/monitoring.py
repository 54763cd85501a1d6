"""What every process tells the monitor about itself, and what it is told to do."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from acgs1.contracts.common import Message

WorkflowType = Literal[
    "policy_creation", "constitutional_compliance", "policy_enforcement", "wina_oversight", "audit_transparency"
]

MAX_SPANS = 500
MAX_RUNS = 500
Name = Annotated[str, Field(max_length=200)]


class ReportedSpan(Message):
    """A finished span; `start` in seconds since the Unix epoch."""

    trace_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    span_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    parent_id: Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")]
    name: Name
    kind: Annotated[str, Field(max_length=20)]
    start: float
    seconds: float
    error: Name | None
    attributes: Annotated[dict[str, str | int | float], Field(max_length=20)]


class BreakerChange(Message):
    at: datetime
    old: str
    new: str
    reason: str


class ReportedBreaker(Message):
    """One circuit breaker; see `acgs1.kit.breaker.BreakerSnapshot`."""

    name: Name
    state: str
    since: datetime
    reason: str
    calls: int
    failure_rate: float
    slow_call_rate: float
    total_calls: int
    total_failures: int
    rejected: int
    retry_after: float | None
    last_failure: str | None
    history: list[BreakerChange]


class StartedRun(Message):
    """A workflow run that began."""

    workflow_type: WorkflowType
    workflow_id: Annotated[str, Field(min_length=1, max_length=80)]
    at: datetime


class FinishedRun(Message):
    """A workflow run that ended."""

    workflow_type: WorkflowType
    at: datetime
    seconds: Annotated[float, Field(ge=0)]
    success: bool
    compliance_score: Annotated[float, Field(ge=0, le=1)] | None = None
    workflow_id: Annotated[str, Field(min_length=1, max_length=80)] | None = None


class Traffic(Message):
    """Requests since the process started. `within` counts those answered within each of the report's `bounds`; operations
    (health, metrics, event streams, reports) are left out."""

    requests: int = 0
    errors: int = 0
    within: list[int] = []


class ProcessCounts(Message):
    """What a process has counted since it started."""

    traffic: Traffic
    enforcement: Traffic
    """The decision point's part of the traffic."""
    cache_hits: int
    """Hot reads that were answered without waiting for a load; what is refreshed in the background makes nobody wait."""
    cache_waits: int
    """Hot reads that waited for a load, their own or one that they shared."""


class ProcessReport(Message):
    """What happened in one process since its previous report, and its counts. `sequence` is 1 for the first one; a report
    that is repeated keeps its sequence."""

    service: Annotated[str, Field(max_length=64)]
    instance: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    sequence: Annotated[int, Field(ge=1)]
    counts: ProcessCounts
    bounds: list[float]
    """Upper bounds of `Traffic.within`, in seconds, ascending."""
    breakers: Annotated[list[ReportedBreaker], Field(max_length=200)]
    spans: Annotated[list[ReportedSpan], Field(max_length=MAX_SPANS)]
    started: Annotated[list[StartedRun], Field(max_length=MAX_RUNS)]
    finished: Annotated[list[FinishedRun], Field(max_length=MAX_RUNS)]
    dropped: Annotated[int, Field(ge=0)]
    """Workflow runs that found no room since the process started."""


class BreakerInstruction(Message):
    """`open` stands until it is missing from an answer; `reset` is carried out once per `id`."""

    id: str
    name: str
    action: Literal["open", "reset"]
    reason: str


class ReportAnswer(Message):
    """What the process is to do with its breakers."""

    instructions: list[BreakerInstruction]

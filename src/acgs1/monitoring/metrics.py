"""What the monitor knows and no other process does, on the console's `/metrics`: the rules for Prometheus are made of it.

Counted as the objectives count: what happens in announced maintenance is left out. Labels are bounded by the parts and the five workflows.
"""

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from prometheus_client import Counter, Gauge

from acgs1.contracts.topology import SERVICES
from acgs1.monitoring.forecast import Forecast
from acgs1.monitoring.objectives import LATENCY_TARGET_SECONDS
from acgs1.monitoring.workflows import WorkflowReport

CHECKS: Final = Counter("acgs_part_checks", "Looks at a part", ["target"])
CHECKS_FAILED: Final = Counter("acgs_part_checks_failed", "Looks at a part that found it not serving", ["target"])
RUNS: Final = Counter("acgs_workflow_runs", "Runs of governance workflows", ["service", "workflow"])
NONCOMPLIANT: Final = Counter(
    "acgs_workflow_noncompliant", "Runs that failed or scored less than 0.99", ["service", "workflow"]
)
LATE: Final = Counter("acgs_workflow_late", "Runs that took longer than their target", ["service", "workflow"])
STUCK: Final = Gauge(
    "acgs_workflows_stuck", "Runs that go on for longer than their target", ["workflow"], multiprocess_mode="livemax"
)
AT_RISK: Final = Gauge(
    "acgs_slo_at_risk_minutes",
    "Minutes until P95 is expected to pass its objective; NaN while it is not",
    ["service"],
    multiprocess_mode="livemax",
)


def count_check(target: str, *, good: bool) -> None:
    CHECKS.labels(target).inc()
    CHECKS_FAILED.labels(target).inc(not good)


def count_runs(service: str, workflow: str, *, total: int, noncompliant: int, late: int) -> None:
    RUNS.labels(service, workflow).inc(total)
    NONCOMPLIANT.labels(service, workflow).inc(noncompliant)
    LATE.labels(service, workflow).inc(late)


def show(reports: Iterable[WorkflowReport], forecasts: Iterable[Forecast], now: datetime) -> None:
    """Bring the gauges up to date."""
    for report in reports:
        STUCK.labels(report.workflow_type).set(len(report.stuck))
    expected = {f.service: f.crosses(LATENCY_TARGET_SECONDS, now) for f in forecasts if f.metric == "p95"}
    for part in SERVICES:
        ahead = expected.get(part.name)
        AT_RISK.labels(part.name).set(math.nan if ahead is None else ahead.total_seconds() / 60)

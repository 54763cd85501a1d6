"""The objectives that are promised, per service and for the whole: the monitor judges by them, Prometheus's rules are made of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from acgs1.contracts.topology import SERVICES
from acgs1.monitoring.slo import Indicator, Objective, Severity

RUNBOOKS: Final = "docs/how-to/runbooks.md"
SYSTEM: Final = "system"
"""Stands for all services together."""

LATENCY_TARGET_SECONDS: Final = 0.05
ENFORCEMENT_TARGET_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Promise:
    """One kind of objective; `name` follows the service's in the objective's name."""

    name: str
    indicator: Indicator
    target: float
    anchor: str
    worst: Severity
    fewest_bad: int

    @property
    def runbook(self) -> str:
        return f"{RUNBOOKS}#{self.anchor}"


UPTIME: Final = Promise("uptime", Indicator.UPTIME, 0.995, "uptime-budget-burns", Severity.CRITICAL, 3)
ERRORS: Final = Promise("errors", Indicator.ERRORS, 0.995, "error-budget-burns", Severity.CRITICAL, 10)
P95: Final = Promise("latency-p95", Indicator.LATENCY, 0.95, "latency-budget-burns", Severity.WARNING, 10)
P99: Final = Promise("latency-p99", Indicator.LATENCY, 0.99, "latency-budget-burns", Severity.WARNING, 10)
CACHE: Final = Promise("cache-hits", Indicator.CACHE, 0.80, "the-cache-answers-too-little", Severity.INFO, 100)
COMPLIANCE: Final = Promise("compliance", Indicator.COMPLIANCE, 0.99, "compliance-budget-burns", Severity.CRITICAL, 3)
TIMELINESS: Final = Promise("timeliness", Indicator.TIMELINESS, 0.99, "timeliness-budget-burns", Severity.WARNING, 20)
"""Apart from compliance: a proof that takes longer than it should is as right as one that does not."""

OF_SERVICES: Final = (ERRORS, P95, P99, CACHE, COMPLIANCE, TIMELINESS)
"""What every service promises beside its uptime."""


def objectives(watched: Iterable[str]) -> list[Objective]:
    """The uptime of each part that is watched; all promises of each service; all promises of the system."""
    found = [_objective(UPTIME, part) for part in (*watched, SYSTEM)]
    for service in (*(part.name for part in SERVICES), SYSTEM):
        found += [_objective(promise, service) for promise in OF_SERVICES]
    return found


def _objective(promise: Promise, service: str) -> Objective:
    return Objective(
        f"{service}-{promise.name}",
        service,
        promise.target,
        promise.runbook,
        promise.indicator,
        promise.worst,
        promise.fewest_bad,
    )

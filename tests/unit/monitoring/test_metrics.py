"""What the monitor and the circuit breakers show on `/metrics`."""

import math
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from acgs1.core.clock import ManualClock
from acgs1.kit.breaker import DELIVERY_CONFIG, Breakers, CircuitOpenError, _Metrics
from acgs1.monitoring import metrics
from acgs1.monitoring.forecast import Forecast
from acgs1.monitoring.workflows import GovernanceWorkflowMonitor


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def fail(breaker: Any) -> None:
    with pytest.raises((ConnectionError, CircuitOpenError)):
        async with breaker:
            raise ConnectionError


async def test_a_breaker_shows_its_state_its_calls_by_outcome_and_whom_it_turned_away():
    clock = ManualClock()
    registry = Breakers(clock)
    registry.subscribe(_Metrics())
    edge = "metrics->test"
    breaker = registry.get(edge, DELIVERY_CONFIG)
    async with breaker:
        pass
    assert value("acgs_breaker_state", breaker=edge, state="closed") == 1
    for _ in range(4):
        await fail(breaker)
    assert value("acgs_breaker_state", breaker=edge, state="closed") == 0
    assert value("acgs_breaker_state", breaker=edge, state="open") == 1
    assert value("acgs_breaker_calls_total", breaker=edge, outcome="success") == 1
    assert value("acgs_breaker_calls_total", breaker=edge, outcome="failure") == 3
    assert value("acgs_breaker_rejected_total", breaker=edge) == 1
    clock.advance(31)
    async with breaker:
        pass
    assert value("acgs_breaker_state", breaker=edge, state="closed") == 1
    assert value("acgs_breaker_state", breaker=edge, state="open") == 0


def test_stuck_runs_and_objectives_at_risk_are_shown_while_they_are():
    clock = ManualClock()
    monitor = GovernanceWorkflowMonitor(clock)
    monitor.workflow_started("wina_oversight", "wf_1")
    clock.advance(61)
    step = timedelta(minutes=5)
    made = Forecast("auth", "p95", "mstl", clock.now(), clock.now(), step, (0.01, 0.06), (0.01, 0.06), 0.1, 0.2)
    metrics.show(monitor.reports(), [made], clock.now())
    assert value("acgs_workflows_stuck", workflow="wina_oversight") == 1
    assert value("acgs_slo_at_risk_minutes", service="auth") == 5
    monitor.record_workflow_execution("wina_oversight", 61, workflow_id="wf_1")
    metrics.show(monitor.reports(), [], clock.now())
    assert value("acgs_workflows_stuck", workflow="wina_oversight") == 0
    risk = value("acgs_slo_at_risk_minutes", service="auth")
    assert risk is not None
    assert math.isnan(risk)

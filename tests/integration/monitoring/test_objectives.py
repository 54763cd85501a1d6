"""Reports of processes become objectives, alerts and orders; all of it outlives the monitor's process."""

import asyncio
import shutil
import socket
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

import factories
from acgs1.contracts.monitoring import (
    FinishedRun,
    ProcessCounts,
    ProcessReport,
    ReportedBreaker,
    ReportedSpan,
    StartedRun,
    Traffic,
)
from acgs1.core.clock import ManualClock
from acgs1.kit.breaker import UnknownBreaker, breakers
from acgs1.kit.errors import Forbidden, InvalidRequest
from acgs1.kit.telemetry import LATENCY_BUCKETS
from acgs1.monitoring.alerts import Alert, NoSuchAlert
from acgs1.monitoring.forecast import Forecast, ForecastUnavailable, compute
from acgs1.monitoring.health import Status
from acgs1.monitoring.service import EnhancedMonitoringService
from acgs1.monitoring.settings import MonitoringSettings
from acgs1.monitoring.slo import Severity
from acgs1.monitoring.traces import NoSuchTrace


class Box:
    def __init__(self) -> None:
        self.groups: list[Sequence[Alert]] = []
        self.fails = False

    async def send(self, alerts: Sequence[Alert]) -> None:
        if self.fails:
            raise OSError("no route")
        self.groups.append(alerts)


class Process:
    """A process of a service that counts what a test makes happen."""

    def __init__(self, service: str, instance: str = "prc_1") -> None:
        self.service, self.instance, self.sequence = service, instance, 0
        self.requests = self.errors = self.decisions = self.late = self.hits = self.loads = 0
        self.within = [0] * len(LATENCY_BUCKETS)

    def answer(self, count: int, seconds: float, *, errors: int = 0) -> None:
        self.requests += count
        self.errors += errors
        for index, bound in enumerate(LATENCY_BUCKETS):
            self.within[index] += count if seconds <= bound else 0

    def report(self, **more: Any) -> ProcessReport:
        self.sequence += 1
        decided = [0 if bound < 0.2 else self.decisions - self.late for bound in LATENCY_BUCKETS]
        return ProcessReport(
            service=self.service,
            instance=self.instance,
            sequence=self.sequence,
            counts=ProcessCounts(
                traffic=Traffic(requests=self.requests, errors=self.errors, within=list(self.within)),
                enforcement=Traffic(requests=self.decisions, errors=0, within=decided),
                cache_hits=self.hits,
                cache_waits=self.loads,
            ),
            bounds=list(LATENCY_BUCKETS),
            **{"breakers": [], "spans": [], "started": [], "finished": [], "dropped": 0, **more},
        )


def monitor(home: Path, clock: ManualClock, box: Box, **options: Any) -> EnhancedMonitoringService:
    healthy = httpx.MockTransport(lambda _: httpx.Response(200, json={"status": "healthy"}))
    return EnhancedMonitoringService(
        factories.settings(home, report_seconds=300),
        options=MonitoringSettings.model_validate({"interval": 3600, **options}),
        clock=clock,
        http=httpx.AsyncClient(transport=healthy),
        sinks=[box],
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 11, 24, 12, tzinfo=UTC))


@pytest.fixture
def box() -> Box:
    return Box()


@pytest.fixture
async def watching(tmp_path: Path, clock: ManualClock, box: Box) -> AsyncGenerator[EnhancedMonitoringService]:
    made = monitor(tmp_path, clock, box)
    await made.start_monitoring()
    yield made
    await made.stop_monitoring()


async def restarted(
    old: EnhancedMonitoringService, home: Path, clock: ManualClock, box: Box
) -> EnhancedMonitoringService:
    await old.stop_monitoring()
    for seen in breakers().snapshot():
        breakers().reset(seen.name, "a new process has new ones")
    made = monitor(home, clock, box)
    await made.start_monitoring()
    return made


async def budgets(service: EnhancedMonitoringService) -> dict[str, tuple[int, int]]:
    await service._write_down()
    return {b.objective.name: (b.total, b.bad) for b in await service.budgets() if b.total}


async def test_each_objective_counts_what_the_processes_report(watching):
    auth, second, policy = Process("auth"), Process("auth", "prc_2"), Process("policy_governance", "prc_3")
    auth.answer(90, 0.01)
    auth.answer(10, 0.3, errors=4)
    auth.hits, auth.loads = 30, 10
    second.answer(100, 0.05)
    policy.decisions, policy.late = 50, 2
    for process in (auth, second, policy):
        await watching.hear(process.report())
    seen = await budgets(watching)
    assert {name: seen[name] for name in seen if not name.endswith("uptime")} == {
        "auth-errors": (200, 4),
        "auth-latency-p95": (200, 10),
        "auth-latency-p99": (200, 10),
        "auth-cache-hits": (40, 10),
        "policy_governance-compliance": (50, 0),
        "policy_governance-timeliness": (50, 2),
        "system-errors": (200, 4),
        "system-latency-p95": (200, 10),
        "system-latency-p99": (200, 10),
        "system-cache-hits": (40, 10),
        "system-compliance": (50, 0),
        "system-timeliness": (50, 2),
    }
    enforcement = watching.workflows.report("policy_enforcement")
    assert (enforcement.executions, enforcement.within_target) == (50, 0.96)
    assert (enforcement.compliant, enforcement.timely) == (True, False)


async def test_a_report_counts_once_and_only_what_is_new_in_it(watching):
    auth = Process("auth")
    auth.answer(10, 0.01)
    first = auth.report()
    for _ in range(3):
        await watching.hear(first)
    auth.answer(5, 0.01)
    await watching.hear(auth.report())
    assert (await budgets(watching))["auth-errors"] == (15, 0)
    older = Process("integrity", "prc_9")
    older.sequence = 40
    older.answer(1000, 0.01, errors=1000)
    await watching.hear(older.report())
    assert "integrity-errors" not in await budgets(watching), "nobody knows when those were"
    with pytest.raises(Forbidden):
        await watching.hear(Process("auth", "prc_9").report())


async def test_what_happens_in_maintenance_counts_for_nothing(watching):
    auth = Process("auth")
    await watching.announce_maintenance("auth", timedelta(minutes=5), "new disk", "usr_1")
    auth.answer(100, 1.0, errors=100)
    run = FinishedRun(workflow_type="audit_transparency", at=watching.clock.now(), seconds=9999, success=False)
    await watching.hear(auth.report(finished=[run]))
    assert {name for name in await budgets(watching) if name.startswith("auth")} <= {"auth-uptime"}


async def test_errors_that_burn_the_budget_raise_an_alert_that_names_slo_evidence_and_runbook(watching, clock, box):
    auth = Process("auth")
    for minute in range(70):
        clock.advance(60)
        auth.answer(100, 0.01, errors=10 if minute > 5 else 0)
        await watching.hear(auth.report())
    await watching.judge()
    (alert,) = [a for a in watching.alerts.firing if a.name == "errors-budget-burns" and a.target == "auth"]
    assert alert.severity is Severity.CRITICAL
    assert alert.evidence["slo"] == "auth-errors"
    assert alert.evidence["long_rate"] == pytest.approx(20, abs=0.5)
    assert alert.runbook == "docs/how-to/runbooks.md#error-budget-burns"
    assert any(a.id == alert.id for group in box.groups for a in group)
    for _ in range(10):
        clock.advance(60)
        auth.answer(100, 0.01)
        await watching.hear(auth.report())
    await watching.judge()
    now = {(a.name, a.target): a.severity for a in watching.alerts.firing}
    assert now["errors-budget-burns", "auth"] is Severity.CRITICAL, (
        "the six hours still burn, in the last 30 minutes too"
    )
    for _ in range(40):
        clock.advance(60)
        auth.answer(100, 0.01)
        await watching.hear(auth.report())
    await watching.judge()
    assert ("errors-budget-burns", "auth") not in {(a.name, a.target) for a in watching.alerts.firing} or all(
        a.severity is Severity.WARNING for a in watching.alerts.firing if a.name == "errors-budget-burns"
    )


async def prove(watching: EnhancedMonitoringService, count: int, seconds: float, score: float = 1.0) -> None:
    for _ in range(count):
        await watching.record_workflow(
            "constitutional_compliance", seconds, compliance_score=score, service="formal_verification"
        )


async def test_proofs_that_take_longer_than_their_target_are_late_and_comply(watching, clock):
    await prove(watching, 3, 0.615)
    await watching.judge()
    assert watching.alerts.firing == [], "three late proofs are no news"
    await prove(watching, 17, 0.3)
    await watching.judge()
    clock.advance(2 * 3600)
    await prove(watching, 20, 0.3)
    await watching.judge()
    assert {(a.name, a.target, a.severity) for a in watching.alerts.firing} == {
        ("timeliness-budget-burns", "formal_verification", Severity.WARNING),
        ("timeliness-budget-burns", "system", Severity.WARNING),
    }
    report = watching.workflows.report("constitutional_compliance")
    assert (report.compliant, report.timely) == (True, False)
    assert (await budgets(watching))["formal_verification-compliance"] == (40, 0)


async def test_proofs_that_answer_too_little_do_not_comply_however_quick(watching):
    await prove(watching, 3, 0.05, score=0.5)
    await watching.judge()
    assert {(a.name, a.target, a.severity) for a in watching.alerts.firing} == {
        ("compliance-budget-burns", "formal_verification", Severity.CRITICAL),
        ("compliance-budget-burns", "system", Severity.CRITICAL),
    }
    assert watching.workflows.report("constitutional_compliance").timely is True


async def test_a_restart_keeps_acknowledgements_silences_escalations_and_running_workflows(
    watching, tmp_path, clock, box
):
    fire = {"runbook": "r", "evidence": {"n": 1}}
    seen = watching.alerts.fire("x", "auth", Severity.CRITICAL, "auth is slow", **fire)
    watching.alerts.fire("x", "ledger", Severity.CRITICAL, "ledger is slow", **fire)
    watching.alerts.fire("y", "integrity", Severity.WARNING, "it is odd", **fire)
    await watching.silence(name="y", target=None, length=timedelta(hours=1), reason="known", by="usr_1")
    await watching.acknowledge(seen.id, "usr_2")
    clock.advance(16 * 60)
    run = StartedRun(workflow_type="policy_creation", workflow_id="wf_1", at=clock.now())
    await watching.hear(Process("governance_synthesis").report(started=[run]))
    await watching.judge()
    again = await restarted(watching, tmp_path, clock, box)
    try:
        fires = {a.target: a for a in again.alerts.firing}
        assert (fires["auth"].acknowledged_by, fires["auth"].escalated, fires["auth"].id) == ("usr_2", False, seen.id)
        assert (fires["ledger"].severity, fires["ledger"].escalated) == (Severity.EMERGENCY, True)
        assert fires["ledger"].evidence == {"n": 1}
        assert [s.name for s in again.alerts.silences] == ["y"]
        told = len(box.groups)
        await again.judge()
        assert len(box.groups) == told, "nobody hears again what they were told before the restart"
        clock.advance(24 * 3600 + 1)
        await again.judge()
        (stuck,) = [a for a in again.alerts.firing if a.name == "workflow-stuck"]
        assert stuck.evidence == {"workflow_ids": ["wf_1"]}
        again.alerts.resolve("x", "auth")
        await again._save_alerts()
        with pytest.raises(NoSuchAlert):
            await again.acknowledge(seen.id, "usr_2")
    finally:
        third = await restarted(again, tmp_path, clock, box)
        assert [a.target for a in third.alerts.resolved] == ["auth"]
        await third.stop_monitoring()


async def test_a_sink_that_failed_is_told_again(watching, box):
    box.fails = True
    watching.alerts.fire("x", "auth", Severity.WARNING, "odd", runbook="r", evidence={})
    await watching.judge()
    assert box.groups == []
    box.fails = False
    await watching.judge()
    await watching.judge()
    assert [[a.target for a in group] for group in box.groups] == [["auth"]]


async def test_what_a_sink_did_not_take_is_told_after_a_restart(watching, tmp_path, clock, box):
    fire = {"runbook": "r", "evidence": {}}
    for target in ("auth", "ledger"):
        watching.alerts.fire("x", target, Severity.WARNING, "odd", **fire)
    await watching.judge()
    box.fails = True
    watching.alerts.resolve("x", "auth")
    watching.alerts.fire("y", "integrity", Severity.WARNING, "odd", **fire)
    await watching.judge()
    again = await restarted(watching, tmp_path, clock, box)
    box.groups.clear()
    await again.judge()
    assert box.groups == []
    third = await restarted(again, tmp_path, clock, box)
    box.fails = False
    await third.judge()
    await third.judge()
    told = [(a.target, a.resolved_at is not None) for group in box.groups for a in group]
    assert sorted(told) == [("auth", True), ("integrity", False)]
    fourth = await restarted(third, tmp_path, clock, box)
    await fourth.judge()
    assert len(told) == sum(map(len, box.groups)), "nobody hears it twice"
    await fourth.stop_monitoring()


def breaker(name: str, state: str = "closed") -> ReportedBreaker:
    return ReportedBreaker(
        name=name, state=state, since=datetime(2026, 11, 24, tzinfo=UTC), reason="r", calls=1, failure_rate=0.0,
        slow_call_rate=0.0, total_calls=1, total_failures=0, rejected=0, retry_after=None, last_failure=None, history=[],
    )  # fmt: skip


async def test_an_order_to_a_breaker_reaches_every_process_that_has_it_and_holds_over_a_restart(
    watching, tmp_path, clock, box
):
    edge = "auth->integrity"
    first, second = Process("auth"), Process("auth", "prc_2")
    for process in (first, second):
        assert (await watching.hear(process.report(breakers=[breaker(edge)]))).instructions == []
    await watching.order_breaker(edge, "open", "a drill", "usr_1")
    for process in (first, second):
        (told,) = (await watching.hear(process.report(breakers=[breaker(edge)]))).instructions
        assert (told.name, told.action, told.reason) == (edge, "open", "a drill")
    with pytest.raises(UnknownBreaker, match="auth->integrity"):
        await watching.order_breaker("nobody->nothing", "open", "x", "usr_1")
    with pytest.raises(InvalidRequest, match="carries the reports"):
        await watching.order_breaker("auth->console", "open", "x", "usr_1")
    again = await restarted(watching, tmp_path, clock, box)
    (told,) = (await again.hear(first.report(breakers=[breaker(edge, "forced_open")]))).instructions
    assert told.action == "open"
    await again.judge()
    assert [(a.name, a.target) for a in again.alerts.firing if a.name == "breaker-open"] == [("breaker-open", edge)]
    await again.order_breaker(edge, "reset", "over", "usr_1")
    (told,) = (await again.hear(first.report(breakers=[breaker(edge)]))).instructions
    assert told.action == "reset"
    await again.judge()
    assert [a for a in again.alerts.firing if a.name == "breaker-open"] == []
    await again.stop_monitoring()


def seen_span(number: int, *, parent: int = 0, trace: str = "a" * 32, error: str | None = None) -> ReportedSpan:
    return ReportedSpan(
        trace_id=trace, span_id=f"{number:016x}", parent_id=f"{parent:016x}" if parent else "", name=f"span {number}",
        kind="server", start=1000.0 + number, seconds=1.5, error=error, attributes={"n": number},
    )  # fmt: skip


async def test_spans_of_several_processes_make_one_trace(watching):
    await watching.hear(Process("integrity").report(spans=[seen_span(2, parent=1, error="503")]))
    await watching.hear(Process("auth", "prc_2").report(spans=[seen_span(1)]))
    (trace,) = watching.traces.last(10)
    assert (trace.name, trace.services, trace.spans, trace.errors, trace.complete) == (
        "auth: span 1", ("auth", "integrity"), 2, 1, True,
    )  # fmt: skip
    assert trace.seconds == pytest.approx(2.5)
    assert [p.service for p in watching.traces.get("a" * 32)] == ["auth", "integrity"]
    assert watching.traces.last(10, service="ledger") == []
    with pytest.raises(NoSuchTrace):
        watching.traces.get("b" * 32)


async def test_the_viewer_keeps_the_last_traces_within_bounds(watching):
    process = Process("auth")
    for batch in range(4):
        spans = [seen_span(1, trace=f"{batch * 100 + n:032x}") for n in range(100)]
        await watching.hear(process.report(spans=spans))
    assert len(watching.traces.last(1000)) == 300
    assert watching.traces.last(1)[0].trace_id == f"{399:032x}"
    await watching.hear(process.report(spans=[seen_span(n + 1) for n in range(400)]))
    assert len(watching.traces.get("a" * 32)) == 200


async def test_a_forecast_of_rising_latency_warns_before_the_objective_breaks(tmp_path, clock, box):
    """Eight short days: each the same wave of load, with a P95 that grows by the day."""
    watching = monitor(tmp_path, clock, box, forecast_step=60, forecast_season=24, forecast_horizon=24)
    await watching.start_monitoring()
    auth = Process("auth")
    await watching.forecast_now()
    assert watching.forecasts == {}
    assert "needs 1.2 hours" in watching.forecast_note
    for step in range(24 * 8):
        busy = step % 24 in range(8, 16)
        auth.answer(100 if busy else 20, 0.006 * (1 + step // 24) if busy else 0.002)
        await watching.hear(auth.report())
        clock.advance(60)
    await watching._write_down()
    await watching.forecast_now()
    await watching.judge()
    load, p95 = watching.forecasts["auth", "load"], watching.forecasts["auth", "p95"]
    assert load.values[11] > 3 * load.values[2], "the wave is expected again"
    assert min(load.error, load.naive_error) < 0.2
    assert len(p95.values) == len(p95.upper) == 24
    expected = p95.crosses(0.02, clock.now())
    assert expected is not None
    assert expected <= timedelta(minutes=9), "the busy hours come again"
    await watching.stop_monitoring()


async def test_a_p95_expected_above_its_objective_is_an_alert_that_says_when(watching, clock):
    def forecast(*values: float) -> Forecast:
        return Forecast(
            "auth", "p95", "mstl", clock.now(), clock.now(), timedelta(minutes=5), values, values, 0.001, 0.002
        )

    watching.forecasts["auth", "p95"] = forecast(0.01, 0.02, 0.03, 0.06)
    await watching.judge()
    (alert,) = [a for a in watching.alerts.firing if a.name == "slo-at-risk"]
    assert alert.summary == "P95 of auth is expected above 50 ms in 15 minutes"
    assert (alert.evidence["slo"], alert.evidence["minutes"], alert.evidence["back_test_error"]) == (
        "auth-latency-p95", 15.0, 0.001,
    )  # fmt: skip
    watching.forecasts["auth", "p95"] = forecast(0.01, 0.02)
    await watching.judge()
    assert [a for a in watching.alerts.firing if a.name == "slo-at-risk"] == []


async def test_a_forecast_that_is_not_renewed_counts_down_and_ends(watching, clock, monkeypatch):
    async def no_forecast(*_: Any, **__: Any) -> Any:
        raise ForecastUnavailable("the library is gone")

    monkeypatch.setattr("acgs1.monitoring.forecast.compute", no_forecast)
    values = (0.01, 0.01, 0.06, 0.06, 0.01)
    made = Forecast("auth", "p95", "mstl", clock.now(), clock.now(), timedelta(minutes=5), values, values, 0.001, 0.002)
    watching.forecasts["auth", "p95"] = made
    minutes: list[float | None] = []
    for _ in range(6):
        await watching.forecast_now()
        await watching.judge()
        at_risk = [a for a in watching.alerts.firing if a.name == "slo-at-risk"]
        minutes.append(at_risk[0].evidence["minutes"] if at_risk else None)
        clock.advance(4 * 60)
    assert minutes == [10, 6, 2, 0, 0, None]
    clock.advance(5 * 60)
    await watching.judge()
    assert watching.forecasts == {}


async def test_without_the_library_there_is_a_reason_and_no_forecast(monkeypatch, tmp_path):
    broken = tmp_path / "forecaster.py"
    broken.write_text("import a_library_that_is_not_there")
    monkeypatch.setattr("acgs1.monitoring.forecast.FORECASTER", broken)
    with pytest.raises(ForecastUnavailable, match=r"No module named 'a_library_that_is_not_there'.*pip install augurs"):
        await compute({"x": [1.0] * 10}, season=2, horizon=2)


@pytest.mark.redis
@pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed")
async def test_redis_is_watched_itself_where_the_system_has_one(tmp_path, clock, box):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = await asyncio.create_subprocess_exec(
        "redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path), stdout=asyncio.subprocess.DEVNULL
    )
    watching = monitor(tmp_path, clock, box)
    watching.settings = factories.settings(tmp_path, redis_url=f"redis://127.0.0.1:{port}", report_seconds=300)
    watching = EnhancedMonitoringService(
        watching.settings, options=watching.options, clock=clock, http=watching._http, sinks=[box]
    )
    await watching.start_monitoring()
    try:
        async with asyncio.timeout(20):
            while (await watching.check_now("redis")).status is not Status.HEALTHY:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.05)
    finally:
        server.terminate()
        await server.wait()
    assert (await watching.check_now("redis")).status is Status.DOWN
    assert {o.service for o in watching.objectives if o.indicator == "uptime"} >= {"redis", "ledger", "auth", "system"}
    await watching.stop_monitoring()


async def test_a_database_server_is_a_part_of_its_own_and_a_file_is_not(tmp_path):
    url = "postgresql+asyncpg://nobody@127.0.0.1:1/nothing"
    with_server = EnhancedMonitoringService(factories.settings(tmp_path, database_url=url))
    assert "database" in with_server.targets
    assert {"database", "redis"}.isdisjoint(EnhancedMonitoringService(factories.settings(tmp_path)).targets)

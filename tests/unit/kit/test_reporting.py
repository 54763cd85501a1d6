"""What a process says of itself, and what it does when it is told."""

import asyncio
import re

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.openmetrics.exposition import generate_latest

from acgs1.contracts.monitoring import BreakerInstruction, ProcessReport, ReportAnswer
from acgs1.core.clock import ManualClock
from acgs1.kit.breaker import Breakers, State
from acgs1.kit.errors import DependencyUnavailable
from acgs1.kit.reporting import Reporter, WorkflowRuns, process_counts
from acgs1.kit.telemetry import LATENCY_BUCKETS
from acgs1.kit.tracing import CLIENT, Recorder, Span


class Monitor:
    """Takes reports; fails while it is `away`."""

    def __init__(self) -> None:
        self.reports: list[ProcessReport] = []
        self.answer: list[BreakerInstruction] = []
        self.away = False

    async def __call__(self, report: ProcessReport) -> ReportAnswer:
        if self.away:
            raise DependencyUnavailable("away")
        self.reports.append(report)
        return ReportAnswer(instructions=self.answer)


class World:
    def __init__(self) -> None:
        self.monitor, self.known, self.spans = Monitor(), Breakers(ManualClock()), Recorder()
        self.runs = WorkflowRuns(ManualClock())
        self.reporter = Reporter("auth", self.monitor, interval=1, known=self.known, spans=self.spans, runs=self.runs)

    def span(self, name: str) -> None:
        self.spans.record(Span("a" * 32, "b" * 16, "", name, CLIENT, 1.0, 0.1, None, {}))


@pytest.fixture
def world() -> World:
    return World()


async def test_a_report_holds_what_happened_since_the_one_before(world):
    world.span("one")
    world.runs.started("policy_creation", "wf_1")
    world.runs.finished("policy_creation", 1.5, compliance_score=0.5, workflow_id="wf_1")
    world.known.get("auth->x")
    await world.reporter.report()
    await world.reporter.report()
    first, second = world.monitor.reports
    assert ([s.name for s in first.spans], [r.workflow_id for r in first.started]) == (["one"], ["wf_1"])
    assert [(r.seconds, r.compliance_score) for r in first.finished] == [(1.5, 0.5)]
    assert (second.spans, second.started, second.finished) == ([], [], [])
    assert [b.name for b in first.breakers] == ["auth->x"]
    assert (first.sequence, second.sequence, first.instance) == (1, 2, second.instance)


async def test_a_monitor_that_is_away_hears_the_same_report_first_when_it_is_back(world):
    world.monitor.away = True
    world.span("early")
    for _ in range(3):
        with pytest.raises(DependencyUnavailable):
            await world.reporter.report()
    world.span("late")
    world.monitor.away = False
    await world.reporter.report()
    assert [(r.sequence, [s.name for s in r.spans]) for r in world.monitor.reports] == [(1, ["early"]), (2, ["late"])]


async def test_runs_wait_within_bounds_and_what_found_no_room_is_counted(world):
    for number in range(2100):
        world.runs.finished("audit_transparency", float(number))
    for _ in range(5):
        await world.reporter.report()
    told = [run.seconds for report in world.monitor.reports for run in report.finished]
    assert (len(told), told[0], told[-1]) == (2000, 100.0, 2099.0)
    assert world.monitor.reports[-1].dropped == 100


async def test_a_breaker_is_held_open_as_long_as_the_monitor_says_so(world):
    edge = world.known.get("auth->x")
    world.monitor.answer = [BreakerInstruction(id="1", name="auth->x", action="open", reason="a drill")]
    for _ in range(2):
        await world.reporter.report()
    assert edge.state is State.FORCED_OPEN
    assert world.known.snapshot()[0].reason == "a drill"
    world.monitor.answer = []
    await world.reporter.report()
    assert edge.state is State.CLOSED


async def test_a_reset_is_carried_out_once_and_one_of_an_unknown_breaker_not_at_all(world):
    edge = world.known.get("auth->x")
    world.monitor.answer = [
        BreakerInstruction(id="1", name="auth->x", action="reset", reason="mended"),
        BreakerInstruction(id="2", name="nobody->nothing", action="reset", reason="mended"),
        BreakerInstruction(id="3", name="nobody->nothing", action="open", reason="a drill"),
    ]
    world.known.force_open("auth->x", "by hand")
    await world.reporter.report()
    assert edge.state is State.CLOSED
    world.known.force_open("auth->x", "by hand again")
    await world.reporter.report()
    assert edge.state is State.FORCED_OPEN, "what was done here afterwards stands"


async def test_reporting_goes_on_when_the_monitor_fails(world):
    world.monitor.away = True
    reporter = Reporter("auth", world.monitor, interval=0.001, known=world.known, spans=world.spans, runs=world.runs)
    running = asyncio.create_task(reporter.run())
    await asyncio.sleep(0.01)
    world.monitor.away = False
    async with asyncio.timeout(10):
        while not world.monitor.reports:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.001)
    running.cancel()


def metrics() -> tuple[CollectorRegistry, Counter, Histogram]:
    registry = CollectorRegistry()
    names = ["service", "method", "route"]
    return (
        registry,
        Counter("acgs_http_requests", "x", [*names, "status"], registry=registry),
        Histogram("acgs_http_request_seconds", "x", names, buckets=LATENCY_BUCKETS, registry=registry),
    )


def test_counts_are_those_that_metrics_show():
    registry, requests, latency = metrics()
    for route, seconds, status in (
        ("/api/v1/x", 0.02, "200"),
        ("/api/v1/y", 0.07, "503"),
        ("/access/v1/evaluation", 0.001, "200"),
        ("/health/ready", 9.0, "503"),
        ("/api/v1/monitoring/events", 9.0, "200"),
    ):
        requests.labels("s", "GET", route, status).inc()
        latency.labels("s", "GET", route).observe(seconds)
    Counter("acgs_cache_hits", "x", ["operation"], registry=registry).labels("o").inc(7)
    Counter("acgs_cache_misses", "x", ["operation"], registry=registry).labels("o").inc(2)
    Counter("acgs_cache_joined", "x", ["operation"], registry=registry).labels("o").inc(1)
    Counter("acgs_cache_loads", "x", ["operation"], registry=registry).labels("o").inc(50)
    seen = process_counts(registry.collect())
    within = dict(zip(LATENCY_BUCKETS, seen.traffic.within, strict=True))
    assert (seen.traffic.requests, seen.traffic.errors, within[0.05], within[0.1]) == (3, 1, 2, 3)
    assert (seen.enforcement.requests, seen.enforcement.within[1]) == (1, 1)
    assert (seen.cache_hits, seen.cache_waits) == (7, 3)


def test_slow_buckets_name_a_trace():
    registry, _, latency = metrics()
    latency.labels("s", "GET", "/x").observe(0.3, {"trace_id": "a" * 32})
    text = generate_latest(registry).decode()
    assert re.search(r'_bucket{le="0.5",.*} 1.0 # {trace_id="a{32}"} 0.3', text)

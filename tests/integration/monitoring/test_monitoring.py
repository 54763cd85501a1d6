"""The monitor on a real database, looking at parts that answer, fail and vanish."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

import factories
from acgs1.contracts.auth import Role
from acgs1.core.clock import ManualClock
from acgs1.kit.breaker import breakers
from acgs1.kit.errors import DependencyUnavailable, InvalidRequest
from acgs1.kit.platform import Platform
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.web import create_service
from acgs1.monitoring.alerts import Alert, AlertBook
from acgs1.monitoring.api import STATUSES, _stream, monitoring_router
from acgs1.monitoring.delivery import MOST_WAITING, Delivery
from acgs1.monitoring.health import Status
from acgs1.monitoring.service import EnhancedMonitoringService, NoSuchMaintenance
from acgs1.monitoring.settings import MonitoringSettings
from acgs1.monitoring.sinks import AlertmanagerSink, SlackSink, WebhookSink
from acgs1.monitoring.slo import Severity


class Parts:
    """What the parts answer, by port."""

    def __init__(self) -> None:
        self.answers: dict[int, httpx.Response | Exception] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = self.answers.get(request.url.port or 0, httpx.Response(200, json={"status": "healthy"}))
        if isinstance(answer, Exception):
            raise answer
        return answer


class Box:
    def __init__(self) -> None:
        self.groups: list[Sequence[Alert]] = []

        self.fails = False

    async def send(self, alerts: Sequence[Alert]) -> None:
        if self.fails:
            raise OSError("no route")
        self.groups.append(alerts)


class Hangs:
    """A sink that takes what it is given and never comes back."""

    def __init__(self) -> None:
        self.asked = 0

    async def send(self, alerts: Sequence[Alert]) -> None:
        self.asked += 1
        await asyncio.Event().wait()


class Broken:
    async def send(self, alerts: Sequence[Alert]) -> None:
        raise OSError("no route")


class World:
    def __init__(self, home: Path, *more: Any) -> None:
        self.clock, self.parts, self.box = ManualClock(), Parts(), Box()
        self.settings = factories.settings(home)
        self.service = EnhancedMonitoringService(
            self.settings,
            # The loops are started, but what the tests look at, they bring about themselves.
            options=MonitoringSettings(interval=3600),
            clock=self.clock,
            http=httpx.AsyncClient(transport=httpx.MockTransport(self.parts)),
            sinks=[*more, self.box],
        )

    def answer(self, part: str, answer: httpx.Response | Exception) -> None:
        self.parts.answers[self.settings.port(part)] = answer

    async def check(self, part: str, times: int = 1) -> Status:
        for _ in range(times):
            self.clock.advance(30)
            await self.service.check_now(part)
        return self.service.targets[part].status


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    made = World(tmp_path)
    await made.service.start_monitoring()
    # Each loop looks once at the start; after that the tests are alone.
    async with asyncio.timeout(30):
        while len(await made.service.history.last_checks()) < len(made.service.targets):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
    yield made
    await made.service.stop_monitoring()


async def test_a_part_goes_down_and_comes_back_with_alerts_at_both_ends(world):
    assert await world.check("auth", 2) is Status.HEALTHY
    world.answer("auth", httpx.ConnectError("refused"))
    assert await world.check("auth", 2) is Status.HEALTHY
    assert await world.check("auth") is Status.DOWN
    await world.service.judge()
    first = next(group for group in world.box.groups if group[0].target == "auth")
    assert [alert.name for alert in first] == ["part-not-serving"]
    world.answer("auth", httpx.Response(200, json={"status": "healthy"}))
    assert await world.check("auth", 2) is Status.HEALTHY
    await world.service.judge()
    assert any(a.resolved_at and a.name == "part-not-serving" for group in world.box.groups for a in group)


@pytest.mark.parametrize(
    ("answer", "status", "detail"),
    [
        (httpx.Response(200, json={"status": "degraded", "dependencies": {"database": "ok", "ledger": "failed"}}),
         Status.DEGRADED, "ledger: failed"),
        (httpx.Response(503, json={"status": "unhealthy"}), Status.UNHEALTHY, ""),
        (httpx.Response(503, json={"status": "healthy"}), Status.UNHEALTHY, ""),
        (httpx.Response(200, text="<html>"), Status.UNHEALTHY, "answered 200 without a health document"),
        (httpx.Response(200, json=[]), Status.UNHEALTHY, "answered 200 without a health document"),
        (httpx.ReadTimeout("slow"), Status.DOWN, "no answer within 5 s"),
        (httpx.ConnectError("refused"), Status.DOWN, "ConnectError"),
    ],
)  # fmt: skip
async def test_what_an_answer_means(world, answer, status, detail):
    world.answer("integrity", answer)
    check = await world.service.check_now("integrity")
    assert (check.status, check.detail) == (status, detail)


async def test_history_is_kept_downsampled_and_survives_a_restart(world, tmp_path):
    await world.check("auth", 9)
    world.answer("auth", httpx.ConnectError("refused"))
    await world.check("auth", 3)
    since = world.clock.now() - timedelta(hours=2)
    single, _ = await world.service.history.points("auth", since, 0)
    coarse, _ = await world.service.history.points("auth", since, 3600)
    assert (sum(p.checks for p in single), sum(p.good for p in single)) == (13, 10), "the loop's own first check too"
    assert (sum(p.checks for p in coarse), sum(p.good for p in coarse)) == (13, 10)
    paged, cursor = await world.service.history.points("auth", since, 0, None, 5)
    while cursor is not None:
        more, cursor = await world.service.history.points("auth", since, 0, cursor, 5)
        paged += more
    assert paged == single
    assert [p.start for p in paged] == sorted((p.start for p in paged), reverse=True)
    await world.service.stop_monitoring()
    again = EnhancedMonitoringService(
        world.settings,
        options=MonitoringSettings(interval=3600),
        clock=world.clock,
        http=httpx.AsyncClient(transport=httpx.MockTransport(world.parts)),
        sinks=[],
    )
    await again.start_monitoring()
    assert again.targets["auth"].status is Status.DOWN
    world.clock.advance(25 * 3600)
    await again.history.prune()
    assert sum(p.checks for p in (await again.history.points("auth", since, 0))[0]) <= 1
    assert sum(p.checks for p in (await again.history.points("auth", since, 3600))[0]) >= 13
    await again.stop_monitoring()


async def test_checks_in_maintenance_count_for_nothing_and_raise_no_alert(world):
    await world.check("auth", 3)
    before = await world.service.history.tally("auth", timedelta(hours=1))
    await world.service.announce_maintenance("auth", timedelta(minutes=30), "new disk", "usr_1")
    world.answer("auth", httpx.ConnectError("refused"))
    await world.check("auth", 10)
    assert await world.service.history.tally("auth", timedelta(hours=1)) == before
    assert [a for a in world.service.alerts.firing if a.target == "auth"] == []
    world.clock.advance(3600)
    await world.check("auth")
    assert [a.name for a in world.service.alerts.firing if a.target == "auth"] == ["part-not-serving"]


async def test_maintenance_can_be_planned_ended_early_and_called_off(world):
    def in_maintenance() -> bool:
        return any(w.covers("auth", world.clock.now()) for w in world.service.maintenance)

    async def counted() -> int:
        return (await world.service.history.tally("auth", timedelta(hours=2))).total

    await world.check("auth", 3)
    begins = world.clock.now() + timedelta(minutes=10)
    planned = await world.service.announce_maintenance(
        "auth", timedelta(minutes=30), "new disk", "usr_1", starts_at=begins
    )
    assert (planned.starts_at, planned.ends_at) == (begins, begins + timedelta(minutes=30))
    before = await counted()
    await world.check("auth")
    assert (await counted(), in_maintenance()) == (before + 1, False), "it has not begun"
    world.clock.advance(10 * 60)
    await world.check("auth")
    assert (await counted(), in_maintenance()) == (before + 1, True)
    await world.service.end_maintenance(planned.id)
    await world.check("auth")
    assert (await counted(), in_maintenance()) == (before + 2, False)
    assert world.service.maintenance == await world.service.history.maintenance() == []
    off = await world.service.announce_maintenance(
        None, timedelta(minutes=30), "move", "usr_1", starts_at=world.clock.now() + timedelta(hours=1)
    )
    await world.service.end_maintenance(off.id)
    assert await world.service.history.maintenance() == []
    with pytest.raises(InvalidRequest, match="has passed"):
        await world.service.announce_maintenance("auth", timedelta(minutes=30), "late", "usr_1", starts_at=begins)
    with pytest.raises(NoSuchMaintenance):
        await world.service.end_maintenance(off.id)


async def test_a_burning_budget_raises_an_alert_with_its_evidence(world):
    await world.check("auth", 60)
    world.answer("auth", httpx.ConnectError("refused"))
    await world.check("auth", 20)
    await world.service.judge()
    burning = [a for a in world.service.alerts.firing if a.name == "uptime-budget-burns" and a.target == "auth"]
    assert burning[0].evidence["slo"] == "auth-uptime"
    assert burning[0].evidence["bad"] == 20
    auth = next(b for b in await world.service.budgets() if b.objective.name == "auth-uptime")
    assert (auth.total, auth.bad) == (81, 20)
    assert auth.remaining < 0


async def test_a_sink_that_fails_or_hangs_silences_no_other_and_opens_its_breaker(tmp_path, monkeypatch):
    monkeypatch.setattr("acgs1.monitoring.service._PARTING_SECONDS", 0.05)
    monkeypatch.setattr("acgs1.monitoring.delivery.SEND_SECONDS", 0.01)
    hangs = Hangs()
    world = World(tmp_path, hangs, Broken())
    await world.service.start_monitoring()
    try:
        world.answer("auth", httpx.ConnectError("refused"))
        await world.check("auth", 3)
        async with asyncio.timeout(20):
            while hangs.asked < 3:
                await world.service.judge()
        assert [a.target for group in world.box.groups for a in group if a.name == "part-not-serving"] == ["auth"]
        await world.service.judge()
        await world.service.judge()
        assert hangs.asked == 3, "its breaker keeps calls away"
        states = {seen.name: seen.state for seen in breakers().snapshot() if seen.name.startswith("console->")}
        assert states == {"console->Hangs": "open", "console->Broken": "open", "console->Box": "closed"}
    finally:
        await world.service.stop_monitoring()


async def test_a_sink_that_hangs_holds_up_neither_judging_nor_the_end(tmp_path):
    world = World(tmp_path, Hangs())
    await world.service.start_monitoring()
    world.answer("auth", httpx.ConnectError("refused"))
    await world.check("auth", 3)
    async with asyncio.timeout(15):
        await world.service.judge()
        assert world.box.groups
        await world.service.stop_monitoring()


async def test_what_waits_for_a_sink_is_bounded_and_the_newest_of_each_alert(tmp_path):
    box = Box()
    box.fails = True
    delivery = Delivery("box", box, lambda: None)
    book = AlertBook(ManualClock(), escalate_after=timedelta(minutes=15))
    for number in range(MOST_WAITING + 5):
        delivery.offer([book.fire("x", f"part {number}", Severity.WARNING, "s", runbook="r", evidence={})])
    last = book.fire("x", f"part {MOST_WAITING}", Severity.WARNING, "newer", runbook="r", evidence={})
    delivery.offer([last])
    assert len(delivery.waiting) == MOST_WAITING
    running = asyncio.create_task(delivery.run())
    delivery.retry()
    await delivery.settled()
    assert len(delivery.waiting) == MOST_WAITING
    box.fails = False
    delivery.retry()
    await delivery.settled()
    running.cancel()
    (group,) = box.groups
    assert (len(group), group[-1].summary, group[0].target) == (MOST_WAITING, "s", "part 5")
    assert "newer" in {alert.summary for alert in group}
    assert delivery.waiting == []


class NoDatabase:
    """Stands in for the database's sessions while it is away."""

    def __init__(self, service: EnhancedMonitoringService, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        for name in ("reading", "transaction"):
            monkeypatch.setattr(service._database, name, self._refuse)

    @asynccontextmanager
    async def _refuse(self) -> AsyncGenerator[Any]:
        raise DependencyUnavailable("no connection to the database")
        yield

    def back(self) -> None:
        self._patch.undo()


async def test_while_the_monitor_has_no_database_it_goes_on_telling(world, monkeypatch):
    await world.check("auth", 3)
    await world.check("ledger", 3)
    before = await world.service.history.tally("auth", timedelta(hours=1))
    away = NoDatabase(world.service, monkeypatch)
    for part in ("auth", "ledger"):
        world.answer(part, httpx.ConnectError("refused"))
        await world.check(part, 3)
    world.answer("ledger", httpx.Response(200, json={"status": "healthy"}))
    await world.check("ledger", 2)
    await world.service.judge()
    await world.service.judge()
    told = {(a.name, a.target, a.resolved_at is not None) for group in world.box.groups for a in group}
    assert told == {
        ("part-not-serving", "auth", False),
        ("part-not-serving", "ledger", True),
        ("monitor-without-database", "monitor", False),
    }
    away.back()
    await world.service.judge()
    await world.service.judge()
    told = {(a.name, a.target, a.resolved_at is not None) for group in world.box.groups for a in group}
    assert ("monitor-without-database", "monitor", True) in told
    after = await world.service.history.tally("auth", timedelta(hours=1))
    assert (after.total - before.total, after.good - before.good) == (3, 0), "what was seen meanwhile counts"
    assert {a.target for a in await world.service.state.alerts(10)} >= {"auth", "ledger", "monitor"}


async def test_sinks_speak_their_protocols(world):
    sent: list[httpx.Request] = []

    def receive(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    http = httpx.AsyncClient(transport=httpx.MockTransport(receive))
    world.answer("auth", httpx.ConnectError("refused"))
    await world.check("auth", 3)
    group = world.service.alerts.firing
    await WebhookSink(http, "http://hook/x", "key").send(group)
    await SlackSink(http, "http://slack/y").send(group)
    await AlertmanagerSink(http, "http://am/").send(group)
    hook, slack, manager = sent
    expected = hmac.new(b"key", hook.content, hashlib.sha256).hexdigest()
    assert hook.headers["X-ACGS-Signature"] == f"sha256={expected}"
    assert "[CRITICAL] auth: auth is down" in json.loads(slack.content)["text"]
    assert manager.url.path == "/api/v2/alerts"
    labels = json.loads(manager.content)[0]["labels"]
    assert labels == {"alertname": "part-not-serving", "target": "auth", "severity": "critical"}


def app_of(world: World) -> Any:
    @asynccontextmanager
    async def wire(app: Any, platform: Platform) -> AsyncGenerator[None]:
        app.state.monitoring = world.service
        yield

    def create(settings: PlatformSettings) -> Any:
        return create_service(
            "console",
            settings,
            description="x",
            routers=[monitoring_router()],
            statuses=STATUSES,
            wire=wire,
            platform=lambda: Platform("console", settings, migrations=None),
        )

    return create


async def test_the_api_shows_and_steers_the_monitor(world):
    async with factories.running(app_of(world), world.settings) as console:
        base, operator, member = "/api/v1/monitoring", console.headers(Role.OPERATOR), console.headers(Role.MEMBER)

        async def get(path: str) -> Any:
            answer = await console.client.get(base + path, headers=member)
            assert answer.status_code == 200, answer.text
            return answer.json()

        world.answer("auth", httpx.ConnectError("refused"))
        await world.check("auth", 3)
        status = await get("/status")
        assert status["status"] == "down"
        assert {t["target"] for t in status["targets"]} == set(world.service.targets)
        assert (await get("/history/auth?width=0"))["items"][0]["good"] == 0
        assert {slo["name"] for slo in await get("/slo")} >= {"auth-uptime", "ledger-uptime"}
        assert (await get("/alerts"))["firing"][0]["target"] == "auth"

        breakers().get("test->api")
        opened = await console.client.post(
            f"{base}/breakers/test->api", json={"action": "open", "reason": "drill"}, headers=operator
        )
        assert opened.status_code == 200, opened.text
        assert [(b["service"], b["state"], b["reason"]) for b in opened.json()] == [("console", "forced_open", "drill")]
        assert any(b["name"] == "test->api" for b in await get("/breakers"))
        reset = await console.client.post(
            f"{base}/breakers/test->api", json={"action": "reset", "reason": "over"}, headers=operator
        )
        assert [b["state"] for b in reset.json()] == ["closed"]

        run = {"workflow_type": "policy_enforcement", "execution_time": 0.01, "compliance_score": 1.0}
        recorded = await console.client.post(
            f"{base}/workflows/executions", json=run, headers=console.headers(Role.SERVICE)
        )
        assert (recorded.status_code, recorded.json()["executions"]) == (201, 1)
        assert [w["executions"] for w in await get("/workflows")] == [0, 0, 1, 0, 0]
        assert len(await world.service.history.executions(10)) == 1

        silence = await console.client.post(
            f"{base}/silences", json={"target": "auth", "minutes": 5, "reason": "known"}, headers=operator
        )
        assert silence.status_code == 201
        assert (await get("/silences"))[0]["id"] == silence.json()["id"]
        ended = await console.client.delete(f"{base}/silences/{silence.json()['id']}", headers=operator)
        assert ended.status_code == 204
        pause = await console.client.post(
            f"{base}/maintenance", json={"target": "auth", "minutes": 5, "reason": "disk"}, headers=operator
        )
        assert pause.status_code == 201
        (window,) = await get("/maintenance")
        assert window["target"] == "auth"
        later = {"starts_at": "2100-01-01T03:00:00+01:00", "minutes": 60, "reason": "move"}
        planned = await console.client.post(f"{base}/maintenance", json=later, headers=operator)
        assert (planned.status_code, planned.json()["ends_at"]) == (201, "2100-01-01T03:00:00Z")
        for made in (window, planned.json()):
            ended = await console.client.delete(f"{base}/maintenance/{made['id']}", headers=operator)
            assert ended.status_code == 204
        assert await get("/maintenance") == []

        for method, path, body, code, http_status in (
            ("GET", "/history/nobody", None, "unknown_target", 404),
            ("POST", "/breakers/nobody", {"action": "open", "reason": "x"}, "unknown_breaker", 404),
            ("DELETE", "/silences/sil_x", None, "no_such_alert", 404),
            ("DELETE", "/maintenance/mnt_x", None, "no_such_maintenance", 404),
            ("POST", "/alerts/alr_x/acknowledgement", None, "no_such_alert", 404),
            ("POST", "/breakers/auth->console", {"action": "open", "reason": "x"}, "invalid_request", 422),
            ("POST", "/workflows/executions", {"workflow_type": "lunch", "execution_time": 1}, "unknown_workflow", 422),
            ("POST", "/maintenance", {"target": "x", "minutes": 1, "reason": "x"}, "unknown_target", 404),
        ):
            answer = await console.client.request(method, base + path, json=body, headers=operator)
            assert (answer.status_code, answer.json()["code"]) == (http_status, code)
        lost = await console.client.get(f"/api/v1/traces/{'a' * 32}", headers=member)
        assert (lost.status_code, lost.json()["code"]) == (404, "no_such_trace")
        alert = (await get("/alerts"))["firing"][0]["id"]
        seen = await console.client.post(f"{base}/alerts/{alert}/acknowledgement", headers=operator)
        assert seen.json()["acknowledged_by"]
        assert (await get("/forecasts"))["forecasts"] == []
        refused = await console.client.post(
            f"{base}/breakers/test->api", json={"action": "open", "reason": "x"}, headers=member
        )
        assert refused.status_code == 403


async def test_changes_are_streamed_as_server_sent_events(world):
    stream = _stream(world.service)
    assert await anext(stream) == ": watching\n\n"
    following = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    world.answer("ledger", httpx.ConnectError("refused"))
    await world.check("ledger", 3)
    head, data = (await asyncio.wait_for(following, 10)).split("\n")[:2]
    while '"ledger"' not in data:
        head, data = (await asyncio.wait_for(anext(stream), 10)).split("\n")[:2]
    assert head == "event: health"
    event = json.loads(data.removeprefix("data: "))
    assert event["target"] == "ledger"
    await stream.aclose()
    assert not world.service._subscribers

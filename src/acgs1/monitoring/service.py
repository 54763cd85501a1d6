"""EnhancedMonitoringService: checks every part continuously, remembers, judges against the SLOs, raises alerts."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import structlog
from sqlalchemy.exc import SQLAlchemyError

from acgs1.contracts.topology import CONSOLE, LEDGER, PARTS
from acgs1.core.clock import Clock, SystemClock, format_instant
from acgs1.core.errors import DomainError
from acgs1.kit.breaker import State, breakers
from acgs1.kit.db import Database
from acgs1.kit.home import Home
from acgs1.kit.settings import PlatformSettings
from acgs1.monitoring.alerts import AlertBook
from acgs1.monitoring.health import Check, Status, TargetHealth
from acgs1.monitoring.history import History, Maintenance
from acgs1.monitoring.settings import MonitoringSettings
from acgs1.monitoring.sinks import Sink, sinks_of
from acgs1.monitoring.slo import Budget, Objective, Severity, budget, burning
from acgs1.monitoring.workflows import Execution, GovernanceWorkflowMonitor

_log = structlog.get_logger()

UPTIME_TARGET: Final = 0.995
_RUNBOOKS: Final = "docs/how-to/runbooks.md"
_STARTING_INTERVAL: Final = 5.0
_PRUNE_SECONDS: Final = 3600.0
_SUBSCRIBER_BACKLOG: Final = 256


class UnknownTarget(DomainError):
    code = "unknown_target"
    title = "The monitor watches no such part"


class NotMonitoring(DomainError):
    """`await monitoring.start_monitoring()` comes first."""

    code = "not_monitoring"
    title = "Monitoring has not been started"


class EnhancedMonitoringService:
    """Watches every part of the system, the ledger node included; the console, where it runs, excepted.

    `start_monitoring` returns once the database stands and checks are under way; `stop_monitoring` ends them.
    """

    def __init__(
        self,
        settings: PlatformSettings | None = None,
        *,
        options: MonitoringSettings | None = None,
        clock: Clock | None = None,
        http: httpx.AsyncClient | None = None,
        sinks: list[Sink] | None = None,
    ) -> None:
        self.settings = settings or PlatformSettings()
        self.options = options or MonitoringSettings()
        self.clock: Clock = clock or SystemClock()
        self.workflows = GovernanceWorkflowMonitor(self.clock)
        self.alerts = AlertBook(self.clock, escalate_after=timedelta(seconds=self.options.escalate_after))
        self.targets = {
            part.name: TargetHealth(part.name, self.options.failures_to_unhealthy, self.options.successes_to_healthy)
            for part in PARTS
            if part is not CONSOLE
        }
        self.objectives = [
            Objective(f"{name}-uptime", name, UPTIME_TARGET, f"{_RUNBOOKS}#uptime-budget-burns")
            for name in self.targets
        ]
        self._http = http
        self._sinks = sinks
        self._database: Database | None = None
        self._history: History | None = None
        self._maintenance: list[Maintenance] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._subscribers: set[asyncio.Queue[dict[str, Any]]] = set()

    @property
    def history(self) -> History:
        """Raises NotMonitoring before `start_monitoring`."""
        if self._history is None:
            raise NotMonitoring("call `await get_monitoring_service().start_monitoring()` first")
        return self._history

    @property
    def running(self) -> bool:
        return bool(self._tasks)

    async def start_monitoring(self) -> None:
        """Begin to watch. Idempotent."""
        if self._tasks:
            return
        self._database = Database.for_service("monitoring", self.settings, Home(self.settings.home))
        await self._database.migrate(Path(__file__).parent / "migrations")
        self._history = History(self._database, self.clock)
        if self._http is None:
            # The monitor's own calls have no breaker: to stop looking is the one thing that it must not do.
            self._http = httpx.AsyncClient(trust_env=False, follow_redirects=False)
        if self._sinks is None:
            self._sinks = sinks_of(self.options, self._http)
        self._maintenance = await self._history.maintenance()
        self.workflows.restore(list(await self._history.executions(10_000)))
        for check in await self._history.last_checks():
            known = self.targets.get(check.target)
            if known is not None:
                known.status, known.since, known.last = check.status, check.at, check
        for name in self.targets:
            self._spawn(f"monitor-{name}", lambda name=name: self._monitor_service_health(name))
        self._spawn("monitor-judge", self._judge_continuously)
        self._spawn("monitor-prune", self._prune_continuously)

    async def stop_monitoring(self) -> None:
        """End every check and let go of the database. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._http is not None:
            await self._http.aclose()
            self._http = None
        if self._database is not None:
            await self._database.close()
            self._database = self._history = None

    async def check_now(self, service_name: str) -> Check:
        """One look at a part, recorded like every other. Raises UnknownTarget."""
        if service_name not in self.targets:
            raise UnknownTarget(f"`{service_name}` is none of {', '.join(self.targets)}")
        check = await self._probe(service_name)
        in_maintenance = any(window.covers(service_name, check.at) for window in self._maintenance)
        health = self.targets[service_name]
        previous = health.observe(check)
        if previous is not None:
            _log.info("health_changed", target=service_name, was=previous, now=health.status, detail=check.detail)
            self._publish(
                {
                    "type": "health",
                    "target": service_name,
                    "was": previous,
                    "status": health.status,
                    "detail": check.detail,
                }
            )
        if in_maintenance or health.status.serves:
            self.alerts.resolve("part-not-serving", service_name)
        elif health.status is not Status.UNKNOWN:
            self.alerts.fire(
                "part-not-serving",
                service_name,
                Severity.CRITICAL,
                f"{service_name} is {health.status}: {check.detail}",
                runbook=f"{_RUNBOOKS}#a-part-does-not-serve",
                evidence={
                    "failed_checks": health.failures,
                    "last_check": format_instant(check.at),
                    "detail": check.detail,
                },
            )
        # A part that has not yet been seen serving may still be starting: its misses count from when it is called down.
        counted = not in_maintenance and health.status is not Status.UNKNOWN
        # Last, so that a database that is away hides nothing of what was seen.
        await self.history.record(check, counted=counted)
        return check

    async def judge(self) -> None:
        """Compare budgets, workflows and breakers with what is promised, and tell the sinks what is due."""
        for objective in self.objectives:
            burn = await burning(objective, self.history)
            if burn is None:
                self.alerts.resolve("error-budget-burns", objective.service)
                continue
            self.alerts.fire(
                "error-budget-burns",
                objective.service,
                burn.rule.severity,
                f"{objective.name} ({objective.target:.1%}) burns its error budget at {burn.long_rate:.1f} times the"
                f" sustainable rate over {_hours(burn.rule.long)} and {burn.short_rate:.1f} over {_hours(burn.rule.short)}",
                runbook=objective.runbook,
                evidence={
                    "slo": objective.name,
                    "long_rate": burn.long_rate,
                    "short_rate": burn.short_rate,
                    "checks": burn.long_tally.total,
                    "failed": burn.long_tally.total - burn.long_tally.good,
                },
            )
        for report in self.workflows.reports():
            if report.stuck:
                self.alerts.fire(
                    "workflow-stuck",
                    report.workflow_type,
                    Severity.WARNING,
                    f"{len(report.stuck)} runs of {report.workflow_type} go on for longer than {report.target_seconds:g} s",
                    runbook=f"{_RUNBOOKS}#a-workflow-is-stuck",
                    evidence={"workflow_ids": list(report.stuck[:20])},
                )
            else:
                self.alerts.resolve("workflow-stuck", report.workflow_type)
        for breaker in breakers().snapshot():
            if breaker.state in {State.OPEN, State.FORCED_OPEN}:
                self.alerts.fire(
                    "breaker-open",
                    breaker.name,
                    Severity.WARNING,
                    f"the circuit breaker {breaker.name} is {breaker.state}: {breaker.reason}",
                    runbook=f"{_RUNBOOKS}#a-circuit-breaker-is-open",
                    evidence={"rejected": breaker.rejected, "since": format_instant(breaker.since)},
                )
            else:
                self.alerts.resolve("breaker-open", breaker.name)
        for group in self.alerts.due():
            self._publish({"type": "alerts", "name": group[0].name, "ids": [alert.id for alert in group]})
            for sink in self._sinks or []:
                try:
                    await sink.send(group)
                except Exception as error:  # noqa: BLE001 - one sink that fails must not silence the others
                    _log.error("alert_not_delivered", sink=type(sink).__name__, alert=group[0].name, error=repr(error))

    async def budgets(self) -> list[Budget]:
        """The error budget of every objective."""
        return [await budget(objective, self.history) for objective in self.objectives]

    async def record_workflow(
        self,
        workflow_type: str,
        execution_time: float,
        *,
        success: bool = True,
        compliance_score: float | None = None,
        workflow_id: str | None = None,
    ) -> Execution:
        """`GovernanceWorkflowMonitor.record_workflow_execution`, kept in the database as well."""
        execution = self.workflows.record_workflow_execution(
            workflow_type,
            execution_time,
            success=success,
            compliance_score=compliance_score,
            workflow_id=workflow_id,
        )
        await self.history.record_execution(execution)
        return execution

    async def announce_maintenance(
        self, target: str | None, length: timedelta, reason: str, made_by: str
    ) -> Maintenance:
        """From now on for `length`, checks of `target` (None: of all) count for nothing. Raises UnknownTarget."""
        if target is not None and target not in self.targets:
            raise UnknownTarget(f"`{target}` is none of {', '.join(self.targets)}")
        now = self.clock.now()
        window = await self.history.add_maintenance(target, now, now + length, reason, made_by)
        self._maintenance = await self.history.maintenance()
        return window

    @property
    def maintenance(self) -> list[Maintenance]:
        now = self.clock.now()
        return [window for window in self._maintenance if now < window.ends_at]

    async def events(self) -> AsyncGenerator[dict[str, Any]]:
        """What changes from now on: health transitions and alerts. A reader too slow for its backlog misses the oldest."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_SUBSCRIBER_BACKLOG)
        self._subscribers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._subscribers.discard(queue)

    async def _monitor_service_health(self, service_name: str) -> None:
        """Check one part for ever, every `interval` seconds from start to start."""
        while True:
            started = self.clock.monotonic()
            try:
                await self.check_now(service_name)
            except (SQLAlchemyError, OSError) as error:
                # The monitor's own database is away: what was seen still shows in the status.
                _log.error("check_not_recorded", target=service_name, error=type(error).__name__)
            starting = self.targets[service_name].status is Status.UNKNOWN
            interval = min(self.options.interval, _STARTING_INTERVAL) if starting else self.options.interval
            await asyncio.sleep(max(0.0, interval - (self.clock.monotonic() - started)))

    async def _judge_continuously(self) -> None:
        while True:
            # A little after the checks, so that what they found is told in the same round.
            await asyncio.sleep(min(self.options.interval, 10.0))
            await self.judge()

    async def _prune_continuously(self) -> None:
        while True:
            await self.history.prune()
            await asyncio.sleep(_PRUNE_SECONDS)

    async def _probe(self, target: str) -> Check:
        assert self._http is not None  # noqa: S101 - INVARIANT: start_monitoring made it
        at, started = self.clock.now(), self.clock.monotonic()
        # The ledger speaks of the chain's health; the services of theirs and of their dependencies.
        path = "/health" if target == LEDGER.name else "/health/ready"
        try:
            async with asyncio.timeout(self.options.timeout):
                response = await self._http.get(self.settings.url(target) + path, timeout=self.options.timeout)
            status, detail = _read(response)
        except (httpx.HTTPError, TimeoutError) as error:
            status = Status.DOWN
            detail = f"no answer within {self.options.timeout:g} s" if _is_timeout(error) else type(error).__name__
        return Check(target, at, status, self.clock.monotonic() - started, detail)

    def _publish(self, event: dict[str, Any]) -> None:
        event = {"at": format_instant(self.clock.now()), **event}
        for queue in self._subscribers:
            if queue.full():
                with suppress(asyncio.QueueEmpty):
                    queue.get_nowait()
            queue.put_nowait(event)

    def _spawn(self, name: str, work: Callable[[], Any]) -> None:
        async def supervised() -> None:
            while True:
                try:
                    await work()
                except Exception as error:  # noqa: BLE001 - one fault must not end the watch
                    _log.error("monitor_job_failed", job=name, exc_info=error)
                    await asyncio.sleep(1.0)

        self._tasks.append(asyncio.create_task(supervised(), name=name))


def _read(response: httpx.Response) -> tuple[Status, str]:
    try:
        body = response.json()
        status = Status(body["status"])
        bad = [
            f"{name}: {state}" for name, state in body.get("dependencies", {}).items() if state not in {"ok", "idle"}
        ]
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return Status.UNHEALTHY, f"answered {response.status_code} without a health document"
    if response.status_code != 200 and status.serves:
        status = Status.UNHEALTHY
    return status, ", ".join(bad)


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, (TimeoutError, httpx.TimeoutException))


def _hours(window: timedelta) -> str:
    minutes = int(window.total_seconds() // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h"


_process: EnhancedMonitoringService | None = None


def get_monitoring_service(settings: PlatformSettings | None = None) -> EnhancedMonitoringService:
    """The monitor of this process. `settings` counts while it does not run; the default is the environment's."""
    global _process  # noqa: PLW0603 - one per process is what it is for
    if _process is None or (settings is not None and not _process.running):
        _process = EnhancedMonitoringService(settings)
    return _process

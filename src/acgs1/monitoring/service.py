"""EnhancedMonitoringService: watches every part continuously, hears what processes report, remembers, and tells who is to know."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import structlog
from sqlalchemy.exc import SQLAlchemyError

from acgs1.contracts.monitoring import (
    BreakerInstruction,
    FinishedRun,
    ProcessCounts,
    ProcessReport,
    ReportAnswer,
    StartedRun,
)
from acgs1.contracts.topology import CONSOLE, PARTS, SERVICES
from acgs1.core.clock import Clock, SystemClock, format_instant
from acgs1.core.errors import DomainError
from acgs1.core.ids import new_id
from acgs1.kit.breaker import UnknownBreaker
from acgs1.kit.db import Database
from acgs1.kit.errors import DependencyUnavailable, InvalidRequest
from acgs1.kit.home import Home
from acgs1.kit.pools import measured_client
from acgs1.kit.reporting import Reporter
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.telemetry import LATENCY_BUCKETS
from acgs1.monitoring.alerts import Alert, AlertBook, Silence
from acgs1.monitoring.counts import Counts
from acgs1.monitoring.delivery import Deliveries
from acgs1.monitoring.forecast import Forecast, Metric, forecast_services
from acgs1.monitoring.health import Check, Status, TargetHealth
from acgs1.monitoring.history import History, Maintenance
from acgs1.monitoring.judging import (
    judge_breakers,
    judge_check,
    judge_database,
    judge_forecasts,
    judge_objective,
    judge_workflows,
)
from acgs1.monitoring.metrics import count_check, count_runs, show
from acgs1.monitoring.objectives import (
    ENFORCEMENT_TARGET_SECONDS,
    LATENCY_TARGET_SECONDS,
    SYSTEM,
    objectives,
)
from acgs1.monitoring.probes import DATABASE, REDIS, Probes
from acgs1.monitoring.processes import Processes
from acgs1.monitoring.settings import MonitoringSettings
from acgs1.monitoring.sinks import Sink, sinks_of
from acgs1.monitoring.slo import (
    WINDOWS,
    Budget,
    Indicator,
    Tally,
    budget,
)
from acgs1.monitoring.state import BreakerOrder, State
from acgs1.monitoring.traces import Traces
from acgs1.monitoring.workflows import Counted, Execution, GovernanceWorkflowMonitor, complies, timely

_log = structlog.get_logger()

_NOT_STARTED: Final = "call `await get_monitoring_service().start_monitoring()` first"
_STARTING_INTERVAL: Final = 5.0
_PRUNE_SECONDS: Final = 3600.0
_SUBSCRIBER_BACKLOG: Final = 256
_FORECAST_STEPS: Final = 3
"""A forecast is made anew after this many steps."""
_UNWRITTEN: Final = 10_000
_JUDGE_SECONDS: Final = 10.0
_DATABASE_SECONDS: Final = 10.0
"""After so long the monitor's database counts as away."""
_CLOCKS_DIFFER: Final = timedelta(minutes=1)
"""How far in the past a beginning may lie that means "now"."""
_PARTING_SECONDS: Final = 1.0
"""How long judging by hand, and stopping, wait for the sinks."""
_RESOLVED_SHOWN: Final = 200
_SERVICES: Final = frozenset(part.name for part in SERVICES)


class UnknownTarget(DomainError):
    code = "unknown_target"
    title = "The monitor watches no such part"


class NoSuchMaintenance(DomainError):
    code = "no_such_maintenance"
    title = "There is no such maintenance"


class NotMonitoring(DomainError):
    """`await monitoring.start_monitoring()` comes first."""

    code = "not_monitoring"
    title = "Monitoring has not been started"


class EnhancedMonitoringService:
    """Watches every part of the system: the services, the ledger node, the database server and Redis where there are such; the
    console, where it runs, excepted. Hears the reports of all processes.

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
        self.traces = Traces()
        self.processes = Processes(self.clock)
        self.forecasts: dict[tuple[str, Metric], Forecast] = {}
        self.forecast_note = "no forecast has been made yet"
        """Why there is no forecast, or of what not."""
        watched = [part.name for part in PARTS if part is not CONSOLE]
        watched += [DATABASE] if self.settings.database_url is not None else []
        watched += [REDIS] if self.settings.redis_url is not None else []
        self.targets = {
            name: TargetHealth(name, self.options.failures_to_unhealthy, self.options.successes_to_healthy)
            for name in watched
        }
        self.objectives = objectives(watched)
        self._http = http
        self._sinks = sinks
        self._database: Database | None = None
        self._history: History | None = None
        self._counts: Counts | None = None
        self._state: State | None = None
        self._probes: Probes | None = None
        self._orders: dict[str, BreakerOrder] = {}
        self._executions: deque[Execution] = deque(maxlen=_UNWRITTEN)
        self._started_runs: deque[tuple[str, str, datetime]] = deque(maxlen=_UNWRITTEN)
        self._ended_runs: deque[tuple[str, str]] = deque(maxlen=_UNWRITTEN)
        self._checks: deque[tuple[Check, bool]] = deque(maxlen=_UNWRITTEN)
        self._unwritten = asyncio.Event()
        self._writing = asyncio.Lock()
        self._deliveries = Deliveries([], self._unwritten.set)
        self._owed: set[tuple[str, str]] = set()
        self._database_away = False
        self._reporter = Reporter(CONSOLE.name, self.hear, interval=self.settings.report_seconds)
        self._maintenance: list[Maintenance] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._subscribers: set[asyncio.Queue[dict[str, Any]]] = set()

    @property
    def history(self) -> History:
        """Raises NotMonitoring before `start_monitoring`."""
        if self._history is None:
            raise NotMonitoring(_NOT_STARTED)
        return self._history

    @property
    def counts(self) -> Counts:
        """Raises NotMonitoring before `start_monitoring`."""
        if self._counts is None:
            raise NotMonitoring(_NOT_STARTED)
        return self._counts

    @property
    def state(self) -> State:
        """Raises NotMonitoring before `start_monitoring`."""
        if self._state is None:
            raise NotMonitoring(_NOT_STARTED)
        return self._state

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
        self._counts = Counts(self._database, self.clock, step=self.options.forecast_step)
        self._state = State(self._database, self.clock)
        if self._http is None:
            # The monitor's own calls have no breaker: to stop looking is the one thing that it must not do.
            self._http = measured_client(CONSOLE.name, "probes", self.settings.http_pool_size)
        self._probes = Probes(self.settings, self.clock, self._http, self._database, timeout=self.options.timeout)
        if self._sinks is None:
            self._sinks = sinks_of(self.options, self._http)
        self._maintenance = await self._history.maintenance()
        self.workflows.restore(list(await self._history.executions(10_000)))
        for workflow_type, workflow_id, since in await self._state.running():
            self.workflows.workflow_started(workflow_type, workflow_id, since)
        self.alerts.restore(await self._state.alerts(_RESOLVED_SHOWN), await self._state.silences())
        self._deliveries = Deliveries(self._sinks, self._unwritten.set)
        owed = await self._state.deliveries()
        self._owed = {(sink, alert.id) for sink, alert in owed}
        self._deliveries.restore(owed)
        self._orders = {order.name: order for order in await self._state.orders()}
        for check in await self._history.last_checks():
            known = self.targets.get(check.target)
            if known is not None:
                known.status, known.since, known.last = check.status, check.at, check
        for name in self.targets:
            self._spawn(f"monitor-{name}", lambda name=name: self._monitor_service_health(name))
        for delivery in self._deliveries.each:
            self._spawn(f"monitor-deliver-{delivery.name}", delivery.run)
        self._spawn("monitor-judge", self._judge_continuously)
        # Apart from what needs no database: a database that hangs is to hold up nothing but these.
        self._spawn("monitor-judge-objectives", self._judge_objectives_continuously)
        self._spawn("monitor-write", self._write_continuously)
        self._spawn("monitor-prune", self._prune_continuously)
        self._spawn("monitor-forecast", self._forecast_continuously)
        self._spawn("monitor-report", self._reporter.run)

    async def stop_monitoring(self) -> None:
        """End every check, give the sinks a second for what they have not been told, and let go of the database. Idempotent."""
        if self._tasks:
            await self._sinks_had_a_moment()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._counts is not None:
            async with self._database_step("stop"):
                await self._write_down()
                await self._save_alerts()
        if self._probes is not None:
            await self._probes.close()
            self._probes = None
        if self._http is not None:
            await self._http.aclose()
            self._http = None
        if self._database is not None:
            await self._database.close()
            self._database = self._history = self._counts = self._state = None

    async def check_now(self, service_name: str) -> Check:
        """One look at a part, recorded like every other, as soon as the database is there. Raises UnknownTarget."""
        if service_name not in self.targets:
            raise UnknownTarget(f"`{service_name}` is none of {', '.join(self.targets)}")
        check = await self._look(service_name)
        async with self._database_step("record"):
            await self._write_down()
        return check

    async def _look(self, service_name: str) -> Check:
        if self._probes is None:
            raise NotMonitoring(_NOT_STARTED)
        check = await self._probes.check(service_name)
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
        judge_check(self.alerts, health, check, in_maintenance=in_maintenance)
        # A part that has not yet been seen serving may still be starting: its misses count from when it is called down.
        counted = not in_maintenance and health.status is not Status.UNKNOWN
        if counted:
            count_check(service_name, good=check.status.serves)
        self._checks.append((check, counted))
        self._unwritten.set()
        return check

    async def judge(self) -> None:
        """Compare workflows, breakers, forecasts and budgets with what is promised, and tell the sinks what is due.

        Returns when every sink has been tried, or after a second. A database that is away costs the budgets alone.
        """
        await self._judge_objectives()
        self._judge_what_is_at_hand()
        await self._sinks_had_a_moment()
        async with self._database_step("keep"):
            await self._save_alerts()

    def _judge_what_is_at_hand(self) -> None:
        now, reports = self.clock.now(), self.workflows.reports()
        self.forecasts = {key: forecast for key, forecast in self.forecasts.items() if now < forecast.ends_at}
        judge_workflows(self.alerts, reports)
        judge_breakers(self.alerts, self.processes.breakers(), now)
        judge_forecasts(self.alerts, self.forecasts.values(), now)
        show(reports, self.forecasts.values(), now)
        judge_database(self.alerts, away=self._database_away)
        self._tell()
        self._deliveries.retry()

    async def _judge_objectives(self) -> None:
        async with self._database_step("judge"):
            await self._write_down()
            tallies = await self._tallies()
            for objective in self.objectives:
                judge_objective(self.alerts, objective, tallies.get((objective.indicator, objective.service), {}))
            self._unwritten.set()

    def _tell(self) -> None:
        """Hand what is due to every sink."""
        for group in self.alerts.due():
            self._publish({"type": "alerts", "name": group[0].name, "ids": [alert.id for alert in group]})
            self._deliveries.offer(group)
            self._unwritten.set()

    async def _sinks_had_a_moment(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PARTING_SECONDS):
                await self._deliveries.settled()

    @asynccontextmanager
    async def _database_step(self, step: str) -> AsyncGenerator[None]:
        """What needs the database: one that is away, or that hangs, ends the block and is remembered, but is nobody else's failure."""
        try:
            async with asyncio.timeout(_DATABASE_SECONDS):
                yield
        except (DependencyUnavailable, SQLAlchemyError, OSError) as error:
            if not self._database_away:
                _log.error("monitor_database_away", step=step, error=type(error).__name__)
            self._database_away = True
        else:
            self._database_away = False

    async def budgets(self) -> list[Budget]:
        """The error budget of every objective."""
        tallies = await self._tallies()
        return [budget(o, tallies.get((o.indicator, o.service), {})) for o in self.objectives]

    async def _tallies(self) -> dict[tuple[str, str], dict[timedelta, Tally]]:
        """(indicator, service) -> tally of each window; the system's are the sums of the services'."""
        found = await self.counts.tallies()
        for target, tallies in (await self.history.tallies()).items():
            found[Indicator.UPTIME, target] = tallies
        for indicator in Indicator:
            parts = [t for (kind, service), t in found.items() if kind == indicator and service in _SERVICES]
            found[indicator, SYSTEM] = {window: _sum([t[window] for t in parts if window in t]) for window in WINDOWS}
        return found

    async def hear(self, report: ProcessReport) -> ReportAnswer:
        """Take in what a process says of itself; what it is to do. A repeated report counts once. Raises Forbidden."""
        counted = self.processes.hear(report)
        if counted is not None:
            self.traces.add(report.service, report.spans)
            paused = any(window.covers(report.service, self.clock.now()) for window in self.maintenance)
            if report.service in _SERVICES and not paused:
                self._count(report.service, counted, report.bounds)
            for started in report.started:
                self._run_started(started)
            for finished in report.finished:
                self._run_finished(finished, None if paused else report.service)
        standing = [
            BreakerInstruction(id=order.id, name=order.name, action="open", reason=order.reason)
            for order in self._orders.values()
        ]
        return ReportAnswer(instructions=[*standing, *self.processes.resets()])

    def _count(self, service: str, counted: ProcessCounts, bounds: list[float]) -> None:
        traffic, enforcement = counted.traffic, counted.enforcement
        self.counts.add(Indicator.ERRORS, service, traffic.requests - traffic.errors, traffic.requests)
        self.counts.add(Indicator.CACHE, service, counted.cache_hits, counted.cache_hits + counted.cache_waits)
        if tuple(bounds) != LATENCY_BUCKETS:
            return  # a process of another version: its latencies are not comparable
        within = dict(zip(bounds, traffic.within, strict=False))
        self.counts.add(Indicator.LATENCY, service, within.get(LATENCY_TARGET_SECONDS, 0), traffic.requests)
        if traffic.requests:
            self.counts.add_load(service, traffic.requests, traffic.within)
        if enforcement.requests:
            decided = Counted(enforcement.requests, enforcement.errors, LATENCY_BUCKETS, tuple(enforcement.within))
            self.workflows.add_counted("policy_enforcement", decided)
            self.counts.add(Indicator.COMPLIANCE, service, decided.total - decided.failed, decided.total)
            in_time = decided.faster_than(ENFORCEMENT_TARGET_SECONDS)
            self.counts.add(Indicator.TIMELINESS, service, in_time, decided.total)
            count_runs(
                service,
                "policy_enforcement",
                total=decided.total,
                noncompliant=decided.failed,
                late=decided.total - in_time,
            )

    def _run_started(self, run: StartedRun) -> None:
        self.workflows.workflow_started(run.workflow_type, run.workflow_id, run.at)
        self._started_runs.append((run.workflow_type, run.workflow_id, run.at))

    def _run_finished(self, run: FinishedRun, service: str | None) -> None:
        execution = self.workflows.record_workflow_execution(
            run.workflow_type,
            run.seconds,
            success=run.success,
            compliance_score=run.compliance_score,
            workflow_id=run.workflow_id,
            finished_at=run.at,
        )
        self._keep_run(execution, run.workflow_id, service)

    def _keep_run(self, execution: Execution, workflow_id: str | None, service: str | None) -> None:
        self._executions.append(execution)
        if workflow_id is not None:
            self._ended_runs.append((execution.workflow_type, workflow_id))
        if service is not None:
            good, in_time = complies(execution), timely(execution)
            self.counts.add(Indicator.COMPLIANCE, service, int(good), 1)
            self.counts.add(Indicator.TIMELINESS, service, int(in_time), 1)
            count_runs(service, execution.workflow_type, total=1, noncompliant=not good, late=not in_time)

    async def _write_down(self) -> None:
        """Write what was seen, heard and told; what cannot be written waits for the next time."""
        async with self._writing:
            while self._checks:
                check, counted = self._checks[0]
                await self.history.record(check, counted=counted)
                self._checks.popleft()
            await self.counts.flush()
            if self._executions:
                executions = list(self._executions)
                await self.history.record_executions(executions)
                for _ in executions:
                    self._executions.popleft()
            started, ended = list(self._started_runs), list(self._ended_runs)
            await self.state.runs_changed(started, ended)
            for queue, count in ((self._started_runs, len(started)), (self._ended_runs, len(ended))):
                for _ in range(count):
                    queue.popleft()

    async def _save_alerts(self) -> None:
        """Store what has changed of the alerts and of who has yet to hear of them."""
        async with self._writing:
            # What is due goes to the sinks first: an alert stored as told, or as over, is stored with who has yet to hear so.
            self._tell()
            alerts, owed = self.alerts.changed(), self._deliveries.waiting()
            if alerts or owed != self._owed:
                await self.state.save_alerts(alerts, owed=owed - self._owed, delivered=self._owed - owed)
                self.alerts.stored(alerts)
                self._owed = owed

    async def order_breaker(self, name: str, action: Literal["open", "reset"], reason: str, by: str) -> None:
        """Hold `name` open in every process that has it, or close it there and end such an order.

        Processes obey with their next report. Raises UnknownBreaker for a name that no process has reported, InvalidRequest for
        the edge to the monitor itself.
        """
        if action == "open" and name.endswith(f"->{CONSOLE.name}"):
            raise InvalidRequest(f"`{name}` carries the reports, and with them the order to close it again")
        await self._reporter.report()
        known = {breaker.seen.name for breaker in self.processes.breakers()}
        if name not in known and name not in self._orders:
            raise UnknownBreaker(
                f"no process has reported a circuit breaker `{name}`; known: {', '.join(sorted(known))}"
            )
        if action == "open":
            order = BreakerOrder(name, new_id("brk"), reason, by, self.clock.now())
            await self.state.order(order)
            self._orders[name] = order
        else:
            await self.state.take_back(name)
            self._orders.pop(name, None)
            self.processes.reset(name, reason)
        _log.info("breaker_ordered", breaker=name, action=action, by=by)
        # Twice: the first brings the order to this process's breakers, the second their new state here.
        await self._reporter.report()
        await self._reporter.report()

    async def acknowledge(self, alert_id: str, by: str) -> Alert:
        """Somebody looks after the alert. Raises NoSuchAlert."""
        alert = self.alerts.acknowledge(alert_id, by)
        await self._save_alerts()
        return alert

    async def silence(
        self, *, name: str | None, target: str | None, length: timedelta, reason: str, by: str
    ) -> Silence:
        """Tell nobody of some alerts for `length`."""
        until = self.clock.now() + length
        silence = self.alerts.silence(name=name, target=target, until=until, reason=reason, by=by)
        await self.state.save_silence(silence)
        return silence

    async def end_silence(self, silence_id: str) -> None:
        """Raises NoSuchAlert."""
        self.alerts.end_silence(silence_id)
        await self.state.end_silence(silence_id)

    async def forecast_now(self) -> None:
        """Forecast load and P95 of every service that has been seen for long enough.

        What was forecast before stands until there is a newer one, or until it reaches no further than now.
        """
        made, self.forecast_note = await forecast_services(
            sorted(_SERVICES),
            self.counts,
            now=self.clock.now,
            step=self.options.forecast_step,
            season=self.options.forecast_season,
            horizon=self.options.forecast_horizon,
        )
        self.forecasts |= made

    async def record_workflow(
        self,
        workflow_type: str,
        execution_time: float,
        *,
        success: bool = True,
        compliance_score: float | None = None,
        workflow_id: str | None = None,
        service: str | None = None,
    ) -> Execution:
        """`GovernanceWorkflowMonitor.record_workflow_execution`, kept in the database as well, and counted for
        `service`'s compliance and timeliness."""
        execution = self.workflows.record_workflow_execution(
            workflow_type,
            execution_time,
            success=success,
            compliance_score=compliance_score,
            workflow_id=workflow_id,
        )
        self._keep_run(execution, workflow_id, service if service in _SERVICES else None)
        async with self._database_step("record"):
            await self._write_down()
        return execution

    async def announce_maintenance(
        self, target: str | None, length: timedelta, reason: str, made_by: str, *, starts_at: datetime | None = None
    ) -> Maintenance:
        """From `starts_at` (default: now) on for `length`, checks of `target` (None: of all) count for nothing.

        Raises UnknownTarget, and InvalidRequest for a beginning in the past: what has been counted stays counted.
        """
        if target is not None and target not in self.targets:
            raise UnknownTarget(f"`{target}` is none of {', '.join(self.targets)}")
        now = self.clock.now()
        if starts_at is not None and starts_at < now - _CLOCKS_DIFFER:
            raise InvalidRequest(f"`starts_at` {format_instant(starts_at)} has passed; it is {format_instant(now)}")
        begins = max(starts_at or now, now).astimezone(UTC)
        window = await self.history.add_maintenance(target, begins, begins + length, reason, made_by)
        self._maintenance = await self.history.maintenance()
        return window

    async def end_maintenance(self, window_id: str) -> None:
        """End it now; one that is still to come is called off. Raises NoSuchMaintenance."""
        if all(window.id != window_id for window in self.maintenance):
            raise NoSuchMaintenance(f"no maintenance `{window_id}` is under way or to come")
        await self.history.end_maintenance(window_id, self.clock.now())
        self._maintenance = await self.history.maintenance()

    @property
    def maintenance(self) -> list[Maintenance]:
        """What is under way and what is to come, by its beginning."""
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
            await self._look(service_name)
            starting = self.targets[service_name].status is Status.UNKNOWN
            interval = min(self.options.interval, _STARTING_INTERVAL) if starting else self.options.interval
            await asyncio.sleep(max(0.0, interval - (self.clock.monotonic() - started)))

    async def _judge_continuously(self) -> None:
        while True:
            # A little after the checks, so that what they found is told in the same round.
            await asyncio.sleep(min(self.options.interval, _JUDGE_SECONDS))
            self._judge_what_is_at_hand()

    async def _judge_objectives_continuously(self) -> None:
        while True:
            await asyncio.sleep(min(self.options.interval, _JUDGE_SECONDS))
            await self._judge_objectives()

    async def _write_continuously(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_JUDGE_SECONDS):
                    await self._unwritten.wait()
            self._unwritten.clear()
            async with self._database_step("write"):
                await self._write_down()
                await self._save_alerts()
            if self._database_away:
                await asyncio.sleep(1.0)

    async def _prune_continuously(self) -> None:
        while True:
            await self.history.prune()
            await self.counts.prune()
            await self.state.prune()
            await asyncio.sleep(_PRUNE_SECONDS)

    async def _forecast_continuously(self) -> None:
        while True:
            await asyncio.sleep(_FORECAST_STEPS * self.options.forecast_step)
            async with self._database_step("forecast"):
                await self._write_down()
            await self.forecast_now()

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


def _sum(tallies: list[Tally]) -> Tally:
    return Tally(sum(t.good for t in tallies), sum(t.total for t in tallies))


_process: EnhancedMonitoringService | None = None


def get_monitoring_service(settings: PlatformSettings | None = None) -> EnhancedMonitoringService:
    """The monitor of this process. `settings` counts while it does not run; the default is the environment's."""
    global _process  # noqa: PLW0603 - one per process is what it is for
    if _process is None or (settings is not None and not _process.running):
        _process = EnhancedMonitoringService(settings)
    return _process

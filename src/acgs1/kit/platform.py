"""What one running service stands on: settings, home, clock, database, identity, clients, outbox. Owned by the app's lifespan."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import structlog
from sqlalchemy.exc import SQLAlchemyError

from acgs1.contracts.events import Receipts
from acgs1.contracts.monitoring import ProcessReport, ReportAnswer
from acgs1.contracts.topology import CONSOLE, PART_BY_NAME
from acgs1.core.clock import Clock, SystemClock
from acgs1.core.errors import DomainError
from acgs1.kit.access import Authenticator, KeySource, PublishedKeys
from acgs1.kit.breaker import DEFAULT_CONFIG, DELIVERY_CONFIG, BreakerSnapshot, State, breakers
from acgs1.kit.clients import PartClient, ServiceToken
from acgs1.kit.db import Database
from acgs1.kit.home import Home
from acgs1.kit.idempotency import IdempotencyRecords
from acgs1.kit.outbox import OutboxRelay
from acgs1.kit.pools import measured_client
from acgs1.kit.reporting import Reporter
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.telemetry import configure_logging
from acgs1.kit.tracing import recorder

if TYPE_CHECKING:
    from acgs1.kit.otlp import OtlpExport

_log = structlog.get_logger()

_REPORT_DEADLINE = 3.0
_EDGE_STATES = ("held open", "circuit open", "idle", "ok")
"""Of an edge to another part, the worst first. `idle`: its breaker would let the next call through, and there was none yet."""
_CHECK_SECONDS = 2.0
# Renewals come one after the other: while auth hangs, ten of them take half a minute.
_TOKEN_EDGE = replace(DEFAULT_CONFIG, window_size=60)


class Platform:
    """Async context manager: starts the shared parts of a service in order and stops them in reverse.

    `migrations` is the service's folder of Alembic revisions; None for a part without a database of its own. `keys` replaces auth's
    published keys (auth itself reads its own).
    """

    def __init__(
        self,
        service: str,
        settings: PlatformSettings,
        *,
        migrations: Path | None,
        clock: Clock | None = None,
    ) -> None:
        self.service = service
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.home = Home(settings.home)
        self.database = Database.for_service(service, settings, self.home)
        self.idempotency = IdempotencyRecords(self.database, self.clock, self.home.service_secret(service))
        self.http = measured_client(service, "http", settings.http_pool_size)
        self._migrations = migrations
        self._tasks: list[asyncio.Task[None]] = []
        self._checks: dict[str, Callable[[], Any]] = {}
        self._checking: dict[str, asyncio.Task[str]] = {}
        self._warmed: set[str] = set()
        self._running = False
        self._export: OtlpExport | None = None
        self._token = ServiceToken(
            service,
            self.home.service_secret(service),
            settings.url("auth"),
            self.http,
            self.clock,
            breakers().get(f"{service}->auth.token", _TOKEN_EDGE),
        )
        keys = PublishedKeys(
            lambda: self.client("auth", anonymous=True).get_json("/.well-known/jwks.json", deadline=3.0),
            self.home.cache / f"jwks-{service}.json",
            self.clock,
        )
        self.authenticator = Authenticator(keys, self.clock)

    def trust(self, keys: KeySource) -> None:
        """Verify tokens with `keys` rather than with auth's published ones (auth itself does)."""
        self.authenticator = Authenticator(keys, self.clock)

    def client(self, target: str, *, anonymous: bool = False) -> PartClient:
        """A client for another part, with this service's token unless `anonymous`. Its connection is made in the background."""
        client = PartClient(
            self.service,
            target,
            self.settings.url(target),
            self.http,
            breakers().get(f"{self.service}->{target}"),
            None if anonymous else self._token,
        )
        if self._running and target not in self._warmed:
            self._warmed.add(target)
            self.spawn(f"warm-{target}", client.warm)
        return client

    def add_check(self, name: str, check: Callable[[], Any]) -> None:
        """Name a dependency for `/health`: `check` is awaited and raises when the dependency is not there."""
        self._checks[name] = check

    def spawn(self, name: str, work: Callable[[], Any]) -> None:
        """Run a background job until the service stops. A job that raises is logged and started again after a second."""

        async def supervised() -> None:
            while True:
                try:
                    return await work()
                except Exception as error:  # noqa: BLE001 - a job's failure must not end the service
                    _log.error("job_failed", job=name, exc_info=error)
                    await asyncio.sleep(1.0)

        self._tasks.append(asyncio.create_task(supervised(), name=name))

    async def check(self) -> dict[str, str]:
        """Each dependency: `ok`, `idle` where nobody has tried since it failed, or what is wrong.

        A part that is called here is judged by its circuit breakers, so that a probe of this service makes no call to others.
        """
        checks = {"database": self.database.ping, **self._checks}

        async def one(name: str, check: Callable[[], Any]) -> str:
            if name not in self._checking:
                self._checking[name] = asyncio.create_task(_outcome(check), name=f"check-{name}")
                self._checking[name].add_done_callback(lambda _: self._checking.pop(name, None))
            try:
                async with asyncio.timeout(_CHECK_SECONDS):
                    # Shielded: the edge's circuit breaker is to hear how it ends, and a cancellation tells it nothing.
                    return await asyncio.shield(self._checking[name])
            except TimeoutError as error:
                return f"failed: {type(error).__name__}"

        results = await asyncio.gather(*(one(name, check) for name, check in checks.items()))
        return self._edges() | dict(zip(checks, results, strict=True))

    def _edges(self) -> dict[str, str]:
        """Every other part that has a client here, by the worst state of its breakers."""
        seen: dict[str, set[str]] = {}
        for breaker in breakers().snapshot():
            source, _, target = breaker.name.partition("->")
            part = target.partition(".")[0]
            if source == self.service != part and part in PART_BY_NAME:
                seen.setdefault(part, set()).add(_edge_state(breaker))
        return {part: min(states, key=_EDGE_STATES.index) for part, states in seen.items()}

    def deliver_to_log(self) -> None:
        """Start delivering this service's outbox to integrity."""
        client = self.client("integrity")

        async def deliver(events: list[str]) -> None:
            # An EventBatch, without taking apart and putting together again what is JSON already.
            await client.post("/api/v1/events", f'{{"events":[{",".join(events)}]}}', Receipts, deadline=10.0)

        self.relay = OutboxRelay(self.service, self.database, deliver, self.clock)
        self.spawn("outbox", self.relay.run)

    async def _report(self, report: ProcessReport) -> ReportAnswer:
        return await self.client(CONSOLE.name).post(
            "/api/v1/monitoring/reports", report, ReportAnswer, deadline=_REPORT_DEADLINE
        )

    async def __aenter__(self) -> Self:
        configure_logging(self.service, self.settings.log_level)
        await self.database.migrate(self._migrations)
        await self.database.warm()
        self._running = True
        recorder().sample(self.settings.trace_sample_rate)
        if self.settings.otlp_endpoint is not None:
            from acgs1.kit.otlp import OtlpExport

            edge = breakers().get(f"{self.service}->otlp", DELIVERY_CONFIG)
            self._export = OtlpExport(self.settings.otlp_endpoint, self.service, edge)
            recorder().listener = self._export.export
        if self.service != CONSOLE.name:
            reporter = Reporter(self.service, self._report, interval=self.settings.report_seconds)
            self.spawn("reports", reporter.run)
        _log.info("started")
        return self

    async def __aexit__(self, *_: object) -> None:
        ending: list[asyncio.Task[Any]] = [*self._tasks, *self._checking.values()]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        if self._export is not None:
            recorder().listener = None
            await asyncio.to_thread(self._export.close)
        await self.http.aclose()
        await self.database.close()
        _log.info("stopped")


def _edge_state(breaker: BreakerSnapshot) -> str:
    match breaker.state:
        case State.CLOSED:
            return "ok"
        case State.OPEN if breaker.retry_after:
            return "circuit open"
        case State.FORCED_OPEN:
            return "held open"
        case _:
            return "idle"


async def _outcome(check: Callable[[], Any]) -> str:
    try:
        await check()
    except (DomainError, SQLAlchemyError, OSError) as error:
        return f"failed: {type(error).__name__}"
    return "ok"

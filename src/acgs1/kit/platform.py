"""What one running service stands on: settings, home, clock, database, identity, clients, outbox. Owned by the app's lifespan."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import structlog
from sqlalchemy.exc import SQLAlchemyError

from acgs1.contracts.events import Receipts
from acgs1.contracts.monitoring import ProcessReport, ReportAnswer
from acgs1.contracts.topology import CONSOLE
from acgs1.core.clock import Clock, SystemClock
from acgs1.core.errors import DomainError
from acgs1.kit.access import Authenticator, KeySource, PublishedKeys
from acgs1.kit.breaker import breakers
from acgs1.kit.clients import PartClient, ServiceToken
from acgs1.kit.db import Database
from acgs1.kit.home import Home
from acgs1.kit.idempotency import IdempotencyRecords
from acgs1.kit.outbox import OutboxRelay
from acgs1.kit.pools import MeasuredTransport, PoolMeter
from acgs1.kit.reporting import Reporter
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.telemetry import configure_logging
from acgs1.kit.tracing import recorder

if TYPE_CHECKING:
    from acgs1.kit.otlp import OtlpExport

_log = structlog.get_logger()

_REPORT_DEADLINE = 3.0


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
        self.http = httpx.AsyncClient(
            transport=MeasuredTransport(PoolMeter(service, "http", settings.http_pool_size), settings.http_pool_size),
            follow_redirects=False,
            trust_env=False,
        )
        self._migrations = migrations
        self._tasks: list[asyncio.Task[None]] = []
        self._checks: dict[str, Callable[[], Any]] = {}
        self._warmed: set[str] = set()
        self._running = False
        self._export: OtlpExport | None = None
        self._token = ServiceToken(
            service,
            self.home.service_secret(service),
            settings.url("auth"),
            self.http,
            self.clock,
            breakers().get(f"{service}->auth.token"),
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
        """Each dependency: `ok`, or what is wrong."""
        checks = {"database": self.database.ping, **self._checks}

        async def one(check: Callable[[], Any]) -> str:
            try:
                async with asyncio.timeout(2.0):
                    await check()
            except (DomainError, SQLAlchemyError, OSError, TimeoutError) as error:
                return f"failed: {type(error).__name__}"
            return "ok"

        results = await asyncio.gather(*(one(check) for check in checks.values()))
        return dict(zip(checks, results, strict=True))

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

            edge = breakers().get(f"{self.service}->otlp")
            self._export = OtlpExport(self.settings.otlp_endpoint, self.service, edge)
            recorder().listener = self._export.export
        if self.service != CONSOLE.name:
            reporter = Reporter(self.service, self._report, interval=self.settings.report_seconds)
            self.spawn("reports", reporter.run)
        _log.info("started", port=self.settings.port(self.service))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._export is not None:
            recorder().listener = None
            await asyncio.to_thread(self._export.close)
        await self.http.aclose()
        await self.database.close()
        _log.info("stopped")

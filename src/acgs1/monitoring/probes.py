"""One look at a part: the services and the ledger by their health documents, the database server and Redis by a ping."""

import asyncio
import json
from typing import Any, Final

import httpx

from acgs1.contracts.topology import LEDGER
from acgs1.core.clock import Clock
from acgs1.kit.db import Database
from acgs1.kit.settings import PlatformSettings
from acgs1.monitoring.health import Check, Status

DATABASE: Final = "database"
REDIS: Final = "redis"


class Probes:
    """Looks at targets. `timeout`: seconds that each may take to answer. `http` and `database` stay the caller's."""

    def __init__(
        self, settings: PlatformSettings, clock: Clock, http: httpx.AsyncClient, database: Database, *, timeout: float
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._http = http
        self._database = database
        self._timeout = timeout
        self._redis: Any = None

    async def close(self) -> None:
        """Let go of Redis."""
        if self._redis is not None:
            await self._redis.aclose()
            self._redis = None

    async def check(self, target: str) -> Check:
        """One look. A target that fails in whatever way is an answer."""
        if target in {DATABASE, REDIS}:
            return await self._ping(target)
        at, started = self._clock.now(), self._clock.monotonic()
        # The ledger speaks of the chain's health; the services of theirs and of their dependencies.
        path = "/health" if target == LEDGER.name else "/health/ready"
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._http.get(self._settings.url(target) + path, timeout=self._timeout)
            status, detail = _read(response)
        except (httpx.HTTPError, TimeoutError) as error:
            status = Status.DOWN
            detail = f"no answer within {self._timeout:g} s" if _is_timeout(error) else type(error).__name__
        return Check(target, at, status, self._clock.monotonic() - started, detail)

    async def _ping(self, target: str) -> Check:
        """Ask the database server or Redis itself, so that its failure is told apart from that of those who use it."""
        at, started = self._clock.now(), self._clock.monotonic()
        status, detail = Status.HEALTHY, ""
        try:
            async with asyncio.timeout(self._timeout):
                await (self._database.ping() if target == DATABASE else self._ping_redis())
        except TimeoutError:
            status, detail = Status.DOWN, f"no answer within {self._timeout:g} s"
        except Exception as error:  # noqa: BLE001 - each driver has exceptions of its own; any of them is the answer
            status, detail = Status.DOWN, type(error).__name__
        return Check(target, at, status, self._clock.monotonic() - started, detail)

    async def _ping_redis(self) -> None:
        if self._redis is None:
            # Imported here: only a system with Redis pays for it.
            from redis.asyncio import Redis

            assert self._settings.redis_url is not None  # noqa: S101 - INVARIANT: else it is no target
            self._redis = Redis.from_url(self._settings.redis_url.get_secret_value(), max_connections=1)
        await self._redis.ping()


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

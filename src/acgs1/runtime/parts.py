"""One part of the system in the process at hand."""

import importlib
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from acgs1.contracts.topology import LEDGER, PARTS, Part
from acgs1.kit.home import Home
from acgs1.kit.settings import PlatformSettings

BACKLOG: Final = 2048
"""Connections that may wait for a part to accept them."""

SPREAD: Final = signal.SIGUSR1
"""Tells a worker that another one has come: it then asks for its connections to be made anew, so that they are spread over all."""

_SPREAD_SECONDS: Final = 0.5
_METRICS: Final = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own name for it

# What every part, or several of them, import only once they run: found by looking at what a started part had loaded.
_SHARED: Final = (
    "alembic.config", "alembic.runtime.environment", "uvicorn", "uvicorn.lifespan.on", "uvicorn.protocols.http.httptools_impl",
    "uvloop", "httptools", "aiosqlite", "anyio._backends._asyncio", "httpcore", "prometheus_client.core", "importlib.resources.readers",
    "acgs1.ledger.client", "acgs1.ledger.instructions", "acgs1_kernel", "acgs1.optimizer.metrics", "acgs1.optimizer.database_level",
    "acgs1.services.policy_governance.jobs", "acgs1.services.policy_governance.adapters.ledger",
    "acgs1.services.integrity.adapters.ledger",
)  # fmt: skip

_WITH_REDIS: Final = ("redis.asyncio", "acgs1.optimizer.redis_level")
_WITH_POSTGRESQL: Final = ("asyncpg", "sqlalchemy.dialects.postgresql.asyncpg")


def preload(settings: PlatformSettings) -> None:
    """Import what the parts share under these settings, so that forked processes share its memory, and freeze it against the collector.

    Starts no thread and no event loop: a process forks safely only then.
    """
    import gc

    for part in PARTS:
        importlib.import_module(part.module)
    redis = _WITH_REDIS if settings.redis_url is not None else ()
    postgres = _WITH_POSTGRESQL if settings.database_url is not None else ()
    for module in (*_SHARED, *redis, *postgres):
        importlib.import_module(module)
    if os.environ.get("ACGS_REDIS_URL"):
        importlib.import_module("acgs1.optimizer.redis_level")
    gc.collect()
    gc.freeze()
    # Nearly all that a request makes is gone with its last reference: looking for cycles every 700 objects finds nothing at a price.
    gc.set_threshold(20_000, 20, 20)


def share_metrics(home: Home) -> None:
    """Let every process of a part count into files that `/metrics` adds up, because any of them may answer it. Call before `preload`."""
    if "prometheus_client" in sys.modules:
        raise RuntimeError("prometheus_client chooses how it counts when it is imported; it is imported already")
    folder = home.run / "metrics"
    # Of processes that are gone.
    shutil.rmtree(folder, ignore_errors=True)
    for part in PARTS:
        (folder / part.name).mkdir(parents=True, mode=0o700)
    os.environ[_METRICS] = str(folder)


def forget_metrics(part: Part, pid: int) -> None:
    """Let the gauges of a process that has ended end with it; what it counted stays."""
    if _METRICS in os.environ:
        # As prometheus_client's `mark_process_dead` does.
        for gauges in (Path(os.environ[_METRICS]) / part.name).glob(f"gauge_live*_{pid}.db"):
            gauges.unlink(missing_ok=True)


class _Spreading:
    """The application, whose answers close their connections for half a second after `SPREAD`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._until = 0.0
        signal.signal(SPREAD, self._begin)

    def _begin(self, *_: object) -> None:
        self._until = time.monotonic() + _SPREAD_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or time.monotonic() >= self._until:
            await self._app(scope, receive, send)
            return

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, closing)


def ports(part: Part, settings: PlatformSettings) -> tuple[int, ...]:
    """Every TCP port that `part` opens: the ledger has a second one, where Solana's clients look for subscriptions."""
    port = settings.port(part.name)
    return (port, port + 1) if part is LEDGER else (port,)


def run(part: Part, settings: PlatformSettings, listener: socket.socket | None = None) -> int:
    """Serve `part` until SIGTERM, on `listener` where one is given (the ledger opens its own ports); the process's exit status."""
    if part is LEDGER:
        return _run_ledger(settings)
    import uvicorn

    module: Any = importlib.import_module(part.module)
    if _METRICS in os.environ:
        os.environ[_METRICS] = str(Path(os.environ[_METRICS]) / part.name)
    config = uvicorn.Config(
        _Spreading(module.create_app(settings)),
        host=settings.host,
        port=settings.port(part.name),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        backlog=BACKLOG,
        # Named, so that uvicorn does not look for what else is installed.
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
    )
    server = uvicorn.Server(config)
    server.run([listener] if listener is not None else None)
    return 0 if server.started else 1


def _run_ledger(settings: PlatformSettings) -> int:
    from acgs1.kit.telemetry import configure_logging
    from acgs1.ledger.node.server import serve
    from acgs1.ledger.node.settings import NodeSettings

    configure_logging("ledger", settings.log_level)
    port, pubsub_port = ports(LEDGER, settings)
    node = NodeSettings(
        data_dir=settings.home / "ledger",
        host=settings.host,
        port=port,
        pubsub_port=pubsub_port,
        allowed_origins=settings.allowed_origins,
    )
    sys.stdout.flush()
    return serve(node)

"""One part of the system in the process at hand."""

import importlib
import sys
from typing import Any

from acgs1.contracts.topology import LEDGER, PARTS, Part
from acgs1.kit.settings import PlatformSettings


def preload() -> None:
    """Import what the parts share, so that forked processes share its memory, and freeze it against the collector.

    Starts no thread and no event loop: a process forks safely only then.
    """
    import gc

    for part in PARTS:
        importlib.import_module(part.module)
    for module in ("alembic.config", "alembic.runtime.environment", "uvicorn", "uvloop", "httptools", "aiosqlite"):
        importlib.import_module(module)
    for module in ("acgs1.ledger.client", "acgs1.ledger.instructions", "acgs1_kernel"):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()


def run(part: Part, settings: PlatformSettings) -> int:
    """Serve `part` until SIGTERM; the process's exit status."""
    if part is LEDGER:
        return _run_ledger(settings)
    import uvicorn

    module: Any = importlib.import_module(part.module)
    config = uvicorn.Config(
        module.create_app(settings),
        host=settings.host,
        port=settings.port(part.name),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        backlog=2048,
    )
    server = uvicorn.Server(config)
    server.run()
    return 0 if server.started else 1


def _run_ledger(settings: PlatformSettings) -> int:
    from acgs1.kit.telemetry import configure_logging
    from acgs1.ledger.node.server import serve
    from acgs1.ledger.node.settings import NodeSettings

    configure_logging("ledger", settings.log_level)
    port = settings.port("ledger")
    node = NodeSettings(
        data_dir=settings.home / "ledger",
        host=settings.host,
        port=port,
        pubsub_port=port + 1,
        allowed_origins=settings.allowed_origins,
    )
    sys.stdout.flush()
    return serve(node)

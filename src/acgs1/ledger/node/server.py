"""Running a node: the HTTP port, the WebSocket port beside it, and the end of the process."""

import errno
import signal
import socket
import sys
from types import FrameType

import structlog
import uvicorn

from acgs1.ledger.node.app import create_app, open_chain
from acgs1.ledger.node.journal import JournalError
from acgs1.ledger.node.settings import NodeSettings

_log = structlog.get_logger(__name__)


def serve(settings: NodeSettings) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status: 0 stopped, 1 could not start, 3 lost its disk.

    JSON-RPC and WebSocket are both on `port`; `pubsub_port`, if free, carries the same, because some clients look for
    subscriptions on the next port.
    """
    try:
        sockets = [_listen(settings.host, settings.port)]
    except OSError as error:
        print(f"ledger node: port {settings.port} on {settings.host}: {error.strerror}", file=sys.stderr)
        return 1
    if settings.pubsub_port is not None:
        try:
            sockets.append(_listen(settings.host, settings.pubsub_port))
        except OSError as error:
            _log.warning("no second port for subscriptions", port=settings.pubsub_port, reason=error.strerror)
    broken = False

    def on_broken(_: BaseException) -> None:
        nonlocal broken
        broken = True
        server.should_exit = True

    try:
        chain = open_chain(settings, on_broken=on_broken)
    except JournalError as error:
        print(f"ledger node: {error}", file=sys.stderr)
        return 1
    if chain.recovery.dropped_tail is not None:
        _log.warning("dropped the end of the log that a crash left", what=chain.recovery.dropped_tail)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings, chain),
            log_level="warning",
            access_log=False,
            lifespan="on",
            ws_max_size=64 * 1024,
            timeout_graceful_shutdown=3,
        )
    )
    # uvicorn stops cleanly on these and then raises them again; that must not turn a clean stop into a kill.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    server.run(sockets=sockets)
    if not server.started:
        return 1
    return 3 if broken else 0


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            error.strerror = "already in use"
        raise
    return listener

"""The node as an ASGI application: JSON-RPC at `POST /`, subscriptions at WebSocket `/`, health beside them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from solders.pubkey import Pubkey
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from acgs1 import __version__
from acgs1.core.clock import Clock, SystemClock
from acgs1.ledger.landed import LANDED_SLOT
from acgs1.ledger.node.chain import Chain
from acgs1.ledger.node.journal import Journal
from acgs1.ledger.node.pubsub import PubSub
from acgs1.ledger.node.rpc import Rpc
from acgs1.ledger.node.settings import NodeSettings
from acgs1.ledger.program import shipped

SERVICE = "ledger"
# Agave's default for --rpc-max-request-body-size.
_MAX_BODY = 50 * 1024


@dataclass(frozen=True, slots=True)
class Node:
    """The object graph of a running node."""

    chain: Chain
    rpc: Rpc
    pubsub: PubSub


def open_chain(
    settings: NodeSettings,
    *,
    clock: Clock | None = None,
    programs: dict[Pubkey, bytes] | None = None,
    on_broken: Callable[[BaseException], None] = lambda _: None,
) -> Chain:
    """The chain in the data directory of `settings`, begun there if need be. Raises JournalError where it cannot go on.

    `programs` (address to ELF) are installed at the genesis; default: the program that ships with the package.
    `on_broken` is called once, from the event loop, when the disk is lost and the process has to end.
    """
    journal = Journal(settings.database)
    try:
        return Chain(
            journal,
            clock or SystemClock(),
            shipped_programs() if programs is None else programs,
            snapshot_every=settings.snapshot_every,
            on_broken=on_broken,
        )
    except BaseException:
        journal.close()
        raise


def create_app(settings: NodeSettings | None = None, chain: Chain | None = None) -> Starlette:
    """The application over `chain`, by default the one that `settings` (default: the environment) name.

    The default opens when the application starts. Either is closed when it stops.
    """
    settings = settings or NodeSettings.from_env()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        opened = chain or open_chain(settings)
        pubsub = PubSub(opened)
        app.state.node = Node(opened, Rpc(opened, airdrop_limit=settings.airdrop_limit), pubsub)
        try:
            yield
        finally:
            await pubsub.close()
            await asyncio.shield(opened.close())

    return Starlette(
        routes=[
            Route("/", _rpc, methods=["POST"]),
            WebSocketRoute("/", _pubsub),
            Route("/health", _health),
            Route("/health/live", _live),
            Route("/health/ready", _health),
            Route("/metrics", _metrics),
        ],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.allowed_origins),
                allow_methods=["POST", "GET"],
                allow_headers=["content-type", "solana-client"],
            )
        ],
        lifespan=lifespan,
    )


def shipped_programs() -> dict[Pubkey, bytes]:
    """The shipped program at its address; empty in a source tree where none was built yet."""
    program = shipped()
    return {} if program is None else {Pubkey.from_string(program.program_id): program.elf}


def node(request: Request | WebSocket) -> Node:
    found: Node = request.app.state.node
    return found


async def _rpc(request: Request) -> Response:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY:
                return PlainTextResponse(f"request body too large; max {_MAX_BODY} bytes", 413)
    except ClientDisconnect:
        return Response(status_code=400)
    answer = await node(request).rpc.handle(bytes(body))
    if answer.body is None:
        return Response(status_code=204)
    headers = {} if answer.landed_slot is None else {LANDED_SLOT: str(answer.landed_slot)}
    return JSONResponse(answer.body, headers=headers)


async def _pubsub(socket: WebSocket) -> None:
    await node(socket).pubsub.serve(socket)


async def _live(_: Request) -> Response:
    return JSONResponse({"status": "ok", "service": SERVICE, "version": __version__})


async def _health(request: Request) -> Response:
    chain = node(request).chain
    healthy = chain.broken is None
    body = {
        "status": "healthy" if healthy else "unhealthy",
        "service": SERVICE,
        "version": __version__,
        "dependencies": {"journal": "ok" if healthy else str(chain.broken)},
        "slot": chain.slot(),
        "transactions": chain.transaction_count,
        "programs": {str(address): digest for address, digest in chain.programs.items()},
        "recovery": {"replayed": chain.recovery.replayed, "dropped_tail": chain.recovery.dropped_tail},
    }
    return JSONResponse(body, 200 if healthy else 503)


async def _metrics(request: Request) -> Response:
    """Prometheus text format, version 0.0.4."""
    chain = node(request).chain
    lines = [
        "# TYPE acgs_ledger_slot gauge",
        f"acgs_ledger_slot {chain.slot()}",
        "# TYPE acgs_ledger_transactions_total counter",
        f"acgs_ledger_transactions_total {chain.transaction_count}",
        "# TYPE acgs_ledger_healthy gauge",
        f"acgs_ledger_healthy {int(chain.broken is None)}",
    ]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

"""No call leaves a service but through a circuit breaker.

Two halves. Every place in the source that opens a way to another process is found by its imports, and is either inside the block of a
breaker, or given one, or listed here with what guards it. And what is listed as guarded is shown to be: with its breaker held open, it does
not touch the client that it was given.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, cast
from unittest.mock import MagicMock

import pytest

import acgs1
from acgs1.contracts.common import Message
from acgs1.core.clock import SystemClock
from acgs1.core.errors import DomainError
from acgs1.kit.breaker import Breakers, CircuitBreaker
from acgs1.kit.clients import PartClient, ServiceToken
from acgs1.kit.otlp import _Guarded
from acgs1.ledger.errors import LedgerError
from acgs1.ledger.instructions import Parameters
from acgs1.monitoring.alerts import Alert
from acgs1.monitoring.delivery import Delivery
from acgs1.optimizer.guard import GuardedLevel
from acgs1.services.formal_verification.adapters.attestor import LedgerAttestor
from acgs1.services.integrity.adapters.ledger import SolanaLedger
from acgs1.services.policy_governance.adapters.ledger import SolanaGovernance

SOURCE = Path(acgs1.__file__).parent
# What a person runs, waiting in front of it: a failure goes to them at once, and no later call depends on it.
COMMANDS = ("cli", "runtime")

# Packages whose every capitalised name, or verb, opens a way to elsewhere.
LIBRARIES = {
    "httpx",
    "requests",
    "aiohttp",
    "httpcore",
    "urllib3",
    "websockets",
    "grpc",
    "redis",
    "smtplib",
    "aiosmtplib",
}
VERBS = {
    "get", "post", "put", "patch", "delete", "head", "options", "request", "stream", "connect", "create_connection",
    "insecure_channel", "secure_channel", "from_url", "from_pool",
}  # fmt: skip
CLIENTS = {
    "AsyncClient", "Client", "ClientSession", "Session", "AsyncHTTPTransport", "HTTPTransport", "HTTPConnection",
    "HTTPSConnection", "PoolManager", "Redis", "StrictRedis", "RedisCluster", "ConnectionPool", "BlockingConnectionPool",
    "SMTP", "SMTP_SSL", "LMTP", "OTLPSpanExporter", "DBOS", "LedgerClient",
    "ledger_client", "measured_client", "JsonRpc", "PartClient", "ServiceToken",
}  # fmt: skip
FUNCTIONS = {
    "urllib.request.urlopen", "asyncio.open_connection", "asyncio.open_unix_connection", "socket.create_connection",
    "asyncpg.connect", "asyncpg.create_pool", "psycopg.connect", "psycopg.AsyncConnection.connect", "socket.socket.connect",
    "sqlalchemy.create_engine", "sqlalchemy.ext.asyncio.create_async_engine",
}  # fmt: skip
# Whatever they are called on: an event loop, a class, a pool.
METHODS = {
    "create_connection",
    "create_unix_connection",
    "create_datagram_endpoint",
    "open_connection",
    "from_url",
    "urlopen",
}
GIVEN_ONE = {"PartClient", "ServiceToken"}

LISTED = {
    # --- guarded by whom the client is handed to -----------------------------------------------------------------
    ("kit/platform.py", "measured_client"): "PartClient and ServiceToken",
    ("kit/pools.py", "httpx.AsyncClient"): "whoever has the measured client",
    ("kit/pools.py", "httpx.AsyncHTTPTransport"): "inside of the platform's client",
    ("kit/otlp.py", "OTLPSpanExporter"): "_Guarded",
    ("agents/client.py", "httpx.AsyncClient"): "PartClient and ServiceToken",
    ("monitoring/sinks.py", "smtplib.SMTP"): "Delivery",
    ("optimizer/redis_level.py", "redis.asyncio.BlockingConnectionPool.from_url"): "GuardedLevel",
    ("optimizer/redis_level.py", "redis.asyncio.Redis.from_pool"): "GuardedLevel",
    ("ledger/http.py", "httpx.AsyncClient"): "whoever has the LedgerClient",
    ("ledger/http.py", "create_connection"): "whoever has the LedgerClient",
    ("ledger/client.py", "LedgerClient"): "whoever has the LedgerClient",
    ("ledger/client.py", "JsonRpc"): "whoever has the LedgerClient",
    ("services/integrity/wiring.py", "ledger_client"): "SolanaLedger",
    ("services/policy_governance/wiring.py", "ledger_client"): "SolanaGovernance",
    # --- without a breaker, for a reason -------------------------------------------------------------------------
    ("monitoring/service.py", "measured_client"): "probes: to stop looking is what the monitor must not do; sinks: Delivery",
    ("monitoring/probes.py", "redis.asyncio.Redis.from_url"): "a probe, as above",
    ("kit/db.py", "sqlalchemy.ext.asyncio.create_async_engine"): "ADR 0011: a service's own database",
    ("kit/workflows.py", "dbos.DBOS"): "ADR 0011: a service's own database",
}  # fmt: skip
"""(file, what it opens) of every other place: what guards it, or why nothing does."""


def openings(source: str) -> Iterator[tuple[int, str]]:
    """(line, what) of each place that opens a way to another process outside of a breaker's block and without being given one."""
    tree = ast.parse(source)
    names = _imported(tree)
    yield from _walk(tree, names, _breakers_in(tree), guarded=False)


def _walk(node: ast.AST, names: dict[str, str], edges: set[str], *, guarded: bool) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Call) and (what := _opens(node, names)):
        given = what in GIVEN_ONE and any(
            _is_breaker(a, edges) for a in [*node.args, *(k.value for k in node.keywords)]
        )
        if not guarded and not given:
            yield node.lineno, what
    if isinstance(node, (ast.With, ast.AsyncWith)):
        for item in node.items:
            yield from _walk(item, names, edges, guarded=guarded)
            guarded = guarded or _is_breaker(item.context_expr, edges)
        for child in node.body:
            yield from _walk(child, names, edges, guarded=guarded)
        return
    # What is only defined inside the block may run after it.
    inside = guarded and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef))
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, names, edges, guarded=inside)


def _imported(tree: ast.AST) -> dict[str, str]:
    """What each imported name is in full."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _breakers_in(tree: ast.AST) -> set[str]:
    """Names that are bound to a breaker of the registry (`edge = breakers().get(...)`)."""
    bound = [n for n in ast.walk(tree) if isinstance(n, ast.Assign) and _is_breaker(n.value, set())]
    return {target.id for n in bound for target in n.targets if isinstance(target, ast.Name)}


def _is_breaker(node: ast.expr, edges: set[str]) -> bool:
    match node:
        case ast.Name(id=name):
            return name in edges
        case ast.Attribute(value=ast.Name(id="self"), attr="_breaker"):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="breakers")), attr="get")):
            return True
        case _:
            return False


def _opens(call: ast.Call, names: dict[str, str]) -> str | None:
    path: list[str] = []
    func = call.func
    while isinstance(func, ast.Attribute):
        path.insert(0, func.attr)
        func = func.value
    if isinstance(func, ast.Name):
        full = ".".join([names.get(func.id, func.id), *path])
        imported = func.id in names
    else:
        full, imported = ".".join(path), False
    package, last = full.partition(".")[0], full.rpartition(".")[2]
    if full in FUNCTIONS or (imported and package in LIBRARIES and last in CLIENTS | VERBS):
        return full
    if package == "acgs1" and last in CLIENTS:
        return last
    if imported and last in CLIENTS - {"Client", "Session"}:
        return full if package == "dbos" else last
    if not imported and (last in METHODS or (not path and last in CLIENTS - {"Client", "Session"})):
        return last
    return None


def _found() -> set[tuple[str, str]]:
    files = [p for p in SOURCE.rglob("*.py") if p.relative_to(SOURCE).parts[0] not in COMMANDS]
    return {(str(p.relative_to(SOURCE)), what) for p in files for _, what in openings(p.read_text())}


def test_every_way_to_another_process_is_guarded_or_listed_with_a_reason():
    assert _found() - set(LISTED) == set()


def test_nothing_is_listed_that_is_not_there():
    assert set(LISTED) - _found() == set()


@pytest.mark.parametrize(
    "source",
    [
        "import httpx\nasync def f():\n    async with httpx.AsyncClient() as c:\n        await c.get('x')",
        "from httpx import AsyncClient as Quiet\ndef f():\n    return Quiet()",
        "import httpx\ndef f():\n    return httpx.get('http://x')",
        "from redis.asyncio import Redis\nasync def f():\n    r = Redis.from_url('x')",
        "async def f():\n    r = Redis.from_url('x'); await r.get('k')",
        "import smtplib\ndef g():\n    smtplib.SMTP('h').send_message(m)",
        "import asyncio\nasync def h():\n    await asyncio.open_connection('h', 1)",
        "from sqlalchemy.ext.asyncio import create_async_engine\ndef i():\n    create_async_engine('postgresql+asyncpg://x')",
        "async def f(loop):\n    await loop.create_connection(P, 'h', 1)",
        "from urllib.request import urlopen\ndef f():\n    urlopen('http://x')",
        "async def f(u):\n    async with LedgerClient(u) as c:\n        return c",
        "async def f(s):\n    async with ledger_client(s) as c:\n        return c",
        "def f(b):\n    breakers()\n    return PartClient('a', 'b', 'u', http, None, None)",
        # A breaker nearby guards nothing: beside the call, after it, or around the making of what runs later.
        "import httpx\nclass M:\n    def a(self): return judge_breakers()\n    def b(self):\n        return httpx.get('x')",
        "import httpx\nasync def f(self):\n    async with self._breaker:\n        pass\n    httpx.get('x')",
        "import httpx\nasync def f(self):\n    async with httpx.AsyncClient() as c, self._breaker:\n        pass",
        "import httpx\nasync def f(self):\n    async with self._breaker:\n        return lambda: httpx.get('x')",
        "import httpx\nasync def f(breaker_count):\n    with breaker_count:\n        httpx.get('x')",
    ],
)  # fmt: skip
def test_a_way_out_that_is_not_guarded_is_found(source: str):
    assert list(openings(source))


@pytest.mark.parametrize(
    "source",
    [
        "import httpx\nasync def f(self):\n    async with self._breaker, httpx.AsyncClient() as c:\n        await c.get('x')",
        "import httpx\ndef f():\n    edge = breakers().get('a->b')\n    with edge:\n        httpx.get('x')",
        "def f(h):\n    return PartClient('a', 'b', 'u', h, breakers().get('a->b'), None)",
    ],
)
def test_a_way_out_inside_a_breaker_is_not(source: str):
    assert list(openings(source)) == []


def test_the_ledger_of_this_installation_is_reached_by_its_settings_alone():
    """Only the check of an evidence bundle asks another one: the ledger that the bundle names."""
    makers = {
        str(p.relative_to(SOURCE))
        for p in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(p.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "LedgerClient"
    }
    assert makers == {"ledger/client.py", "cli/evidence.py"}


# --- what is listed as guarded is ------------------------------------------------------------------------------------


ADDRESS = "11111111111111111111111111111111"


class Touched(BaseException):
    """Somebody used a client past its breaker. Not an Exception: nobody may take it for a failure of the other side."""


class Forbidden:
    """A client that must not be used; what it says of itself asks nobody."""

    commitment = "confirmed"

    def __getattr__(self, name: str) -> NoReturn:
        raise Touched(name)


@pytest.fixture
def shut() -> CircuitBreaker:
    registry = Breakers()
    breaker = registry.get("a->b")
    registry.force_open("a->b", "a test")
    return breaker


def _asks(adapter: object) -> list[str]:
    """The methods of `adapter` that ask the other side."""
    return [n for n, m in inspect.getmembers(type(adapter), inspect.iscoroutinefunction) if not n.startswith("_")]


def _anything(parameter: inspect.Parameter) -> Any:
    """Something that passes for the parameter for as long as nobody takes it to the other side."""
    if parameter.annotation in {str, "str"}:
        return ADDRESS
    return MagicMock(
        wallet=ADDRESS, index=1, content_hash="00" * 32, kind="policy", subject=ADDRESS, period_seconds=3600
    )


async def _uses_nothing(adapter: object, names: list[str]) -> None:
    for name in names:
        method = getattr(adapter, name)
        wanted = [p for p in inspect.signature(method).parameters.values() if p.default is p.empty]
        given: dict[str, Any] = {p.name: _anything(p) for p in wanted}
        with pytest.raises((DomainError, LedgerError)) as refused:
            await method(**given)
        assert "open" in str(refused.value), name


async def test_a_part_client_and_a_token_do_not_call_past_their_breakers(shut: CircuitBreaker):
    http = cast("Any", Forbidden())
    client = PartClient("a", "b", "http://b", http, shut, None)
    await _uses_nothing(client, [name for name in _asks(client) if name not in {"warm", "post"}])
    with pytest.raises(DomainError, match="breaker is open"):
        await client.post("/x", "{}", Message)
    with pytest.raises(DomainError, match="open"):
        await ServiceToken("a", "secret", "http://auth", http, SystemClock(), shut)()


async def test_whoever_has_a_ledger_client_does_not_call_past_the_breaker(
    shut: CircuitBreaker, tmp_path: Path, monkeypatch
):
    client = cast("Any", Forbidden())
    anchors = SolanaLedger(client, tmp_path / "log.json", shut)
    await _uses_nothing(anchors, _asks(anchors))
    governance = SolanaGovernance(client, tmp_path, Parameters(3600, 6000, 5000), shut)
    asked = _asks(governance)
    assert len(asked) >= 20
    await _uses_nothing(governance, asked)
    monkeypatch.setattr("acgs1.ledger.client.LedgerClient", Forbidden().__class__.__getattr__)
    await _uses_nothing(LedgerAttestor("http://ledger", tmp_path / "verifier.json", shut), ["attest"])


async def test_sinks_exporters_and_cache_levels_are_not_called_past_their_breakers(shut: CircuitBreaker, monkeypatch):
    delivery = Delivery("x", cast("Any", Forbidden()), lambda: None)
    monkeypatch.setattr(delivery, "_breaker", shut)
    await delivery._deliver([cast("Alert", MagicMock())])
    _Guarded(cast("Any", Forbidden()), shut).export([])

    level = MagicMock(timeout=1.0)
    level.name = "redis"
    for call in ("read", "write", "invalidate", "claim", "release", "ping", "start"):
        getattr(level, call).side_effect = Touched(call)
    guarded = GuardedLevel(level, heard=MagicMock(), lost_track=MagicMock(), owner="a", recovery_seconds=60)
    monkeypatch.setattr(guarded, "_breaker", shut)
    assert await guarded.read("key", []) is None
    assert await guarded.claim("key", 1.0) is None
    assert await guarded._bring_in() is False

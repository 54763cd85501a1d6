"""No call leaves a service but through a circuit breaker: read from the source, so that a new client cannot forget it."""

import ast
from pathlib import Path

import pytest

import acgs1

SOURCE = Path(acgs1.__file__).parent
# What a person runs, waiting in front of it: a failure goes to them at once, and no later call depends on it.
COMMANDS = ("cli", "runtime")
# Where the clients themselves are defined.
DEFINITIONS = {"kit/clients.py", "kit/pools.py", "ledger/http.py", "ledger/jsonrpc.py", "ledger/client.py"}
TRANSPORTS = {
    "AsyncClient",
    "Client",
    "LedgerClient",
    "ledger_client",
    "HTTPConnection",
    "HTTPSConnection",
    "JsonRpc",
    "connect",
    "measured_client",
}
GUARDED = {"PartClient", "ServiceToken"}
AT_ONCE = {"get", "post", "put", "patch", "delete", "head", "options", "request", "stream", "urlopen"}


def unguarded(source: str) -> list[str]:
    """Places in `source` that call another process without a breaker in the function or class around the call."""
    calls = ((node, top) for top in ast.parse(source).body for node in ast.walk(top) if isinstance(node, ast.Call))
    return [
        f"line {call.lineno}: {what}"
        for call, top in calls
        if (what := _opens(call)) and not _has_breaker(call if what in GUARDED else top)
    ]


def _opens(call: ast.Call) -> str | None:
    match call.func:
        case ast.Attribute(value=ast.Name(id="httpx" | "requests" | "urllib" | "aiohttp" as library), attr=name):
            return f"{library}.{name}" if name in TRANSPORTS | AT_ONCE | {"ClientSession"} else None
        case ast.Name(id=name) if name in (TRANSPORTS | GUARDED | {"urlopen"}) - {"connect", "Client"}:
            return name
        case _:
            return None


def _has_breaker(node: ast.AST) -> bool:
    return any(
        (isinstance(n, ast.Name) and "breaker" in n.id)
        or (isinstance(n, ast.Attribute) and "breaker" in n.attr)
        or (isinstance(n, ast.Name) and n.id == "edge")
        for n in ast.walk(node)
    )


def _files() -> list[Path]:
    files = [p for p in SOURCE.rglob("*.py") if p.relative_to(SOURCE).parts[0] not in COMMANDS]
    return [p for p in files if str(p.relative_to(SOURCE)) not in DEFINITIONS]


def test_every_client_outside_of_the_commands_is_behind_a_breaker():
    assert {str(p.relative_to(SOURCE)): places for p in _files() if (places := unguarded(p.read_text()))} == {}


def test_the_walk_sees_the_edges_that_are_known():
    seen = {
        str(p.relative_to(SOURCE))
        for p in _files()
        if any(isinstance(n, ast.Call) and _opens(n) for n in ast.walk(ast.parse(p.read_text())))
    }
    assert {
        "kit/platform.py",
        "agents/client.py",
        "services/integrity/wiring.py",
        "services/policy_governance/wiring.py",
        "services/formal_verification/adapters/attestor.py",
    } <= seen


@pytest.mark.parametrize(
    "source",
    [
        "async def f():\n    async with httpx.AsyncClient() as c:\n        await c.get('x')",
        "def f():\n    return httpx.get('http://x')",
        "async def f(u):\n    async with LedgerClient(u) as c:\n        return c",
        "async def f(s):\n    async with ledger_client(s) as c:\n        return c",
        "def f(b):\n    breakers()\n    return PartClient('a', 'b', 'u', http, None, None)",
    ],
)
def test_a_client_without_a_breaker_is_found(source: str):
    assert unguarded(source)


def test_the_ledger_of_this_installation_is_reached_by_its_settings_alone():
    """Only the check of an evidence bundle asks another one: the ledger that the bundle names."""
    makers = {
        str(p.relative_to(SOURCE))
        for p in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(p.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "LedgerClient"
    }
    assert makers == {"ledger/client.py", "cli/evidence.py"}


def test_whoever_is_given_a_ledger_client_is_given_its_breaker():
    takers: list[str] = []
    for path in (SOURCE / "services").rglob("*.py"):
        for cls in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef)):
            init = next((n for n in cls.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
            names = {ast.unparse(a.annotation) for a in init.args.args if a.annotation} if init else set[str]()
            if "LedgerClient" in names:
                takers.append(cls.name)
                assert "CircuitBreaker" in names, f"{path}: {cls.name}"
    assert {"SolanaGovernance", "SolanaLedger"} <= set(takers)

"""A node in this process, on a clock that the test owns; and one in a process of its own, on the real one."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from acgs1.core.clock import ManualClock
from acgs1.ledger.client import LedgerClient
from acgs1.ledger.node.app import create_app, open_chain
from acgs1.ledger.node.settings import NodeSettings


@dataclass
class LiveNode:
    clock: ManualClock
    http: httpx.AsyncClient
    client: LedgerClient

    async def rpc(self, method: str, *params: object) -> dict:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        return (await self.http.post("http://node/", json=body)).json()


@asynccontextmanager
async def running(directory: Path, clock: ManualClock) -> AsyncIterator[LiveNode]:
    settings = NodeSettings(data_dir=directory, snapshot_every=7)
    app = create_app(settings, open_chain(settings, clock=clock))
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        yield LiveNode(clock, http, LedgerClient("http://node/", http=http))


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with running(tmp_path / "ledger", ManualClock()) as live:
        yield live


@pytest.fixture
def start():
    return running


@dataclass(frozen=True)
class Endpoint:
    """A node in a process of its own, reached over real sockets."""

    url: str
    websocket: str


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A node for the tests of one file; or the cluster that ACGS_CONFORMANCE_URL names (with ACGS_CONFORMANCE_WS, and
    ACGS_CONFORMANCE_PAYER, the keypair file that pays where the faucet does not)."""
    if url := os.environ.get("ACGS_CONFORMANCE_URL"):
        yield Endpoint(url, os.environ.get("ACGS_CONFORMANCE_WS", url.replace("http", "ws", 1)))
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory = tmp_path_factory.mktemp("node")
    command = ["-m", "acgs1.ledger.node", "--port", str(port), "--pubsub-port", "0", "--data-dir", str(directory)]
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    try:
        while not _answers(port):
            assert process.poll() is None, "the node ended"
            time.sleep(0.05)
        yield Endpoint(f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}")
    finally:
        process.terminate()
        assert process.wait() == 0


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    except httpx.TransportError:
        return False

"""A node in this process, on a clock that the test owns."""

from collections.abc import AsyncIterator
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

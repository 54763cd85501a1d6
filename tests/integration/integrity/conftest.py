"""A real ledger node on a loopback port, with the governance program initialised for one home."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from solders.keypair import Keypair

from acgs1.kit.home import Home
from acgs1.ledger.client import LedgerClient
from acgs1.ledger.instructions import Authorities, Parameters
from acgs1.ledger.keys import load_or_create_keypair
from acgs1.ledger.node.app import create_app
from acgs1.ledger.node.settings import NodeSettings


class Node:
    """A node that can be stopped and started again on the same port and data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = create_app(NodeSettings(data_dir=self._folder, port=self.port, pubsub_port=None))
        config = uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="error", lifespan="on")
        self._server = uvicorn.Server(config)
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise RuntimeError("the node did not start")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
            self._server = self._task = None

    async def initialize(self, home: Path) -> str:
        """Initialise the program with the log authority of `home`; returns its address."""
        log = load_or_create_keypair(Home(home).keys("ledger") / "log.json").pubkey()
        council = Keypair()
        who = Authorities(council=council.pubkey(), emergency=council.pubkey(), log=log, verifier=council.pubkey())
        async with LedgerClient(self.url) as client:
            await client.ensure_funded(council.pubkey(), 10**9, 10**10)
            await client.ensure_initialized(council, who, Parameters(voting_period=60), "11" * 32)
        return str(log)


@asynccontextmanager
async def running_node(folder: Path) -> AsyncGenerator[Node]:
    node = Node(folder)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncGenerator[Node]:
    async with running_node(tmp_path / "ledger") as running:
        yield running


@pytest.fixture(scope="session", name="running_node")
def _running_node():
    return running_node

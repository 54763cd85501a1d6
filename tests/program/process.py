"""A ledger node in a process of its own, to be killed and started again."""

import asyncio
import signal
import socket
import sys
from pathlib import Path

import httpx


class Process:
    """`python -m acgs1.ledger.node` on a free port."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.directory = directory
        self.http = httpx.AsyncClient(timeout=30)

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "acgs1.ledger.node", "--port", str(self.port), "--pubsub-port", "0",
            "--data-dir", str(self.directory),
        )  # fmt: skip
        while not await self._ready():
            assert self.process.returncode is None, "the node ended"
            await asyncio.sleep(0.05)

    async def _ready(self) -> bool:
        try:
            return (await self.http.get(f"http://127.0.0.1:{self.port}/health/ready")).status_code == 200
        except httpx.TransportError:
            return False

    async def kill(self):
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self):
        self.process.terminate()
        assert await self.process.wait() == 0
        await self.http.aclose()

    async def rpc(self, method, *params):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        return (await self.http.post(f"http://127.0.0.1:{self.port}/", json=body)).json()["result"]

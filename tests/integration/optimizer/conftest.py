import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redis_server import Proxy, RedisServer


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def proxy(redis: RedisServer) -> AsyncIterator[Proxy]:
    made = Proxy(redis.port)
    await made.open()
    yield made
    await made.cut()


class Process:
    """A `peer.py`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def hears(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), 60)
        assert line, "the process has ended"
        return json.loads(line)

    def tell(self, do: str, **parameters: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **parameters}).encode() + b"\n")

    async def ask(self, do: str, **parameters: Any) -> dict[str, Any]:
        self.tell(do, **parameters)
        return await self.hears()


StartPeer = Callable[..., Awaitable[Process]]


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[StartPeer]:
    """Starts processes that share a database, and Redis if it is given."""
    started: list[Process] = []

    async def start(redis: str = "-", database: str | None = None, claim_seconds: float = 30.0) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("peer.py")),
            redis,
            database or f"sqlite+aiosqlite:///{tmp_path / 'shared.sqlite3'}",
            f"peer-{len(started)}",
            str(claim_seconds),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        made = Process(process)
        started.append(made)
        assert await made.hears() == {"ready": True}
        return made

    yield start
    for one in started:
        if one.process.returncode is None:
            assert one.process.stdin is not None
            one.process.stdin.close()
            try:
                await asyncio.wait_for(one.process.wait(), 20)
            except TimeoutError:
                one.process.kill()
                await one.process.wait()

"""Pools are bounded, and measured while they are used."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY

from acgs1.kit.db import Database
from acgs1.kit.pools import MeasuredTransport, PoolMeter


def figure(name: str, pool: str, service: str) -> float:
    return REGISTRY.get_sample_value(name, {"service": service, "pool": pool}) or 0.0


class Gate:
    """A server that answers when it is told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = 0
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            self.waiting += 1
            await self.open.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()


@pytest.fixture
async def gate() -> AsyncIterator[tuple[Gate, str]]:
    made = Gate()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    yield made, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()


async def test_the_http_pool_holds_to_its_size_and_tells_who_waits(gate: tuple[Gate, str]):
    server, url = gate
    service = "test-http"
    async with httpx.AsyncClient(transport=MeasuredTransport(PoolMeter(service, "http", 2), 2)) as client:
        calls = [asyncio.create_task(client.get(url, timeout=30)) for _ in range(5)]
        async with asyncio.timeout(30):
            while server.waiting < 2:  # noqa: ASYNC110 - counted by the server
                await asyncio.sleep(0)
        assert figure("acgs_pool_in_use", "http", service) == 2
        assert figure("acgs_pool_size", "http", service) == 2
        with pytest.raises(httpx.PoolTimeout):
            await client.get(url, timeout=httpx.Timeout(30, pool=0.01))
        assert figure("acgs_pool_timeouts_total", "http", service) == 1
        server.open.set()
        assert [(await call).text for call in calls] == ["ok"] * 5
        assert figure("acgs_pool_in_use", "http", service) == 0
        assert figure("acgs_pool_wait_seconds_count", "http", service) == 5
        assert server.connections == 2, "connections are kept and used again"
    assert figure("acgs_pool_size", "http", service) == 0


async def test_a_call_that_fails_or_is_cancelled_gives_its_connection_back(gate: tuple[Gate, str]):
    server, url = gate
    service = "test-cancel"
    async with httpx.AsyncClient(transport=MeasuredTransport(PoolMeter(service, "http", 1), 1)) as client:
        call = asyncio.create_task(client.get(url, timeout=30))
        async with asyncio.timeout(30):
            while server.waiting < 1:  # noqa: ASYNC110 - counted by the server
                await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:1/", timeout=5)
        assert figure("acgs_pool_in_use", "http", service) == 0
        server.open.set()
        assert (await client.get(url, timeout=30)).text == "ok"


async def test_the_database_pool_is_warm_before_it_is_asked_and_counts_who_uses_it(tmp_path: Path):
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.sqlite3'}", pool_size=4, owner="test-db")
    await database.warm()
    made = database.engine.pool.checkedin()  # pyright: ignore[reportAttributeAccessIssue]
    assert made == 2
    async with database.transaction() as session:
        await session.connection()
        assert figure("acgs_pool_in_use", "database", "test-db") == 1
    assert figure("acgs_pool_in_use", "database", "test-db") == 0
    assert figure("acgs_pool_wait_seconds_count", "database", "test-db") == 3
    await database.close()
    assert figure("acgs_pool_size", "database", "test-db") == 0

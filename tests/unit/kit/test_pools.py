"""Pools are bounded, and measured while they are used."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY

from acgs1.core.ids import new_id
from acgs1.kit.db import Database
from acgs1.kit.home import Home
from acgs1.kit.pools import MeasuredTransport, PoolMeter
from acgs1.kit.steps import Step
from acgs1.kit.workflows import Engine
from acgs1.ledger.errors import LedgerUnavailableError
from acgs1.ledger.jsonrpc import JsonRpc
from acgs1.monitoring.service import EnhancedMonitoringService
from acgs1.optimizer.service import PerformanceOptimizer
from factories import settings


def figure(name: str, pool: str, service: str) -> float:
    return REGISTRY.get_sample_value(name, {"service": service, "pool": pool}) or 0.0


class Gate:
    """A server that answers when it is told to."""

    answer = b"ok"

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = 0
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while await reader.readline():
            body = 0
            while line := (await reader.readline()).strip():
                if line.lower().startswith(b"content-length:"):
                    body = int(line.split(b":")[1])
            await reader.readexactly(body)
            self.waiting += 1
            await self.open.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self.answer), self.answer))
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


async def test_the_ledgers_connections_are_bounded_by_the_setting_and_tell_who_waits(gate: tuple[Gate, str]):
    server, url = gate
    server.answer = b'{"jsonrpc":"2.0","id":1,"result":7}'
    service = "test-ledger"
    async with JsonRpc(url, timeout=30) as rpc:
        rpc.pool(2, PoolMeter(service, "ledger", 2))
        calls = [asyncio.create_task(rpc.call("getSlot")) for _ in range(5)]
        async with asyncio.timeout(30):
            while server.waiting < 2:  # noqa: ASYNC110 - counted by the server
                await asyncio.sleep(0)
        assert figure("acgs_pool_in_use", "ledger", service) == 2
        assert figure("acgs_pool_size", "ledger", service) == 2
        server.open.set()
        await asyncio.gather(*calls, return_exceptions=True)
        assert figure("acgs_pool_in_use", "ledger", service) == 0
        assert figure("acgs_pool_wait_seconds_count", "ledger", service) == 5
        assert server.connections == 2, "connections are kept and used again"
    assert figure("acgs_pool_size", "ledger", service) == 0


async def test_a_request_to_the_ledger_does_not_wait_for_ever_for_its_place(gate: tuple[Gate, str]):
    server, url = gate
    service = "test-ledger-full"
    async with JsonRpc(url, timeout=0.05) as rpc:
        rpc.pool(1, PoolMeter(service, "ledger", 1))
        failed = await asyncio.gather(*(rpc.call("getSlot") for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in failed] == [LedgerUnavailableError] * 3
        assert figure("acgs_pool_timeouts_total", "ledger", service) >= 1
        assert server.connections >= 1


async def test_the_pools_of_workflows_cache_and_monitor_are_sized_by_their_settings(tmp_path: Path):
    sizes = {"cache_database_pool_size": 5, "workflow_pool_size": 6, "http_pool_size": 7}
    config = settings(tmp_path, **sizes)
    home = Home(tmp_path)
    service = "test-sizes"

    optimizer = PerformanceOptimizer(config, owner=service)
    await optimizer.initialize()
    assert figure("acgs_pool_size", "cache_database", service) == 5
    assert figure("acgs_pool_wait_seconds_count", "cache_database", service) > 0
    await optimizer.close()

    async def body(workflow_id: str, step: Step) -> None: ...

    engine = Engine.for_service(service, config, home, new_id("exe"), body)
    assert await engine.run("wfl_1")
    assert figure("acgs_pool_size", "workflows", service) == 6
    assert figure("acgs_pool_wait_seconds_count", "workflows", service) > 0
    assert 0 <= figure("acgs_pool_in_use", "workflows", service) <= 6
    await engine.close()
    assert figure("acgs_pool_size", "workflows", service) == 0

    monitor = EnhancedMonitoringService(config)
    await monitor.start_monitoring()
    assert figure("acgs_pool_size", "probes", "console") == 7
    await monitor.stop_monitoring()
    assert figure("acgs_pool_size", "probes", "console") == 0


async def test_slow_statements_of_the_cache_are_shown_with_the_services_own(tmp_path: Path):
    config = settings(tmp_path, slow_query_ms=0.000_001)
    service = "test-slow"
    own = Database(
        f"sqlite+aiosqlite:///{tmp_path / 'own.sqlite3'}", owner=service, slow_query_seconds=0.000_001 / 1000
    )
    await own.ping()
    optimizer = PerformanceOptimizer(config, owner=service)
    await optimizer.initialize()
    report = own.slow_queries.report_all()
    assert report.service == service
    assert {query.pool for query in report.queries} == {"database", "cache_database"}
    assert any("cache_" in query.statement for query in report.queries if query.pool == "cache_database")
    totals = [query.total_seconds for query in report.queries]
    assert totals == sorted(totals, reverse=True)
    await optimizer.close()
    assert {query.pool for query in own.slow_queries.report_all().queries} == {"database"}
    await own.close()

"""The cache in two processes: invalidations arrive within 100 ms, a stampede computes once, a dead holder delays nobody for long."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from polling import eventually
from postgres_server import postgres_server
from redis_server import RedisServer

pytestmark = pytest.mark.slow  # each starts processes of its own

ROUNDS = 15


@pytest.fixture
def postgres() -> Iterator[str]:
    yield from postgres_server()


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ]
)
def shared(request: pytest.FixtureRequest) -> tuple[str, str | None]:
    """What two processes share: (Redis, database)."""
    if request.param == "redis":
        return request.getfixturevalue("redis").url, None
    return "-", request.getfixturevalue("postgres") if request.param == "postgres" else None


async def test_an_invalidation_reaches_another_process_within_100_ms(shared, peer):
    one, two = await peer(*shared), await peer(*shared)
    latencies: list[float] = []
    for number in range(ROUNDS):
        key = f"k{number}"
        await one.ask("set", key=key, value=number)
        assert await two.ask("load", key=key, value="not asked for") == {"value": number}
        assert await two.ask("gone") == {"watching": True}
        began = (await one.ask("invalidate", key=key))["began"]
        latencies.append((await two.hears())["at"] - began)
        assert await two.ask("get", key=key) == {"value": None}
    # The middle one: the promise is about the cache, and not about a machine that is busy with something else.
    assert median(latencies) < 0.1, latencies


@pytest.mark.redis
async def test_a_stampede_of_50_tasks_in_each_of_two_processes_computes_once(redis: RedisServer, peer, tmp_path: Path):
    one, two = await peer(redis.url), await peer(redis.url)
    log, gate = tmp_path / "log", tmp_path / "gate"
    for process in (one, two):
        assert await process.ask("compute", key="k", callers=50, log=str(log), gate=str(gate)) == {"asking": 50}
    await _computing(log)
    gate.touch()
    for process in (one, two):
        assert await process.hears() == {"values": [1] * 50}
    assert log.read_text() == "computed\n"


@pytest.mark.redis
async def test_a_process_that_dies_while_it_computes_holds_up_the_others_for_its_claim_only(redis, peer, tmp_path):
    one, two = await peer(redis.url, claim_seconds=1.0), await peer(redis.url, claim_seconds=1.0)
    log, gate = tmp_path / "log", tmp_path / "gate"
    await one.ask("compute", key="k", callers=1, log=str(log), gate=str(gate))
    await _computing(log)
    await two.ask("compute", key="k", callers=5, log=str(log), gate=None)
    one.process.kill()
    assert await two.hears() == {"values": [2] * 5}


async def _computing(log: Path) -> None:
    def begun() -> bool:
        return log.exists() and log.read_text() == "computed\n"

    await asyncio.to_thread(eventually, begun, "a computation has begun")

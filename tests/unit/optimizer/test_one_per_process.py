"""The optimizer that `get_performance_optimizer` names is the one in use."""

import asyncio
from pathlib import Path

import pytest
from fastapi import FastAPI

from acgs1.optimizer import get_performance_optimizer
from acgs1.optimizer.service import NotInitialized
from acgs1.optimizer.web import optimized
from factories import settings


async def test_in_a_service_it_is_the_one_that_the_service_reads_through(tmp_path: Path):
    app = FastAPI()
    async with optimized(app, settings(tmp_path), "auth"):
        app.state.reads.declare("keys", dict[str, int], ttl=60)

        async def compute() -> dict[str, int]:
            return {"n": 1}

        assert await app.state.reads.get("keys", {}, compute) == {"n": 1}
        optimizer = get_performance_optimizer()
        await optimizer.initialize()
        assert await optimizer.cache.get("auth", "keys", {}) == {"n": 1}
        assert optimizer.cache.operations["auth", "keys"].loads == 1
        assert await optimizer.batches.add_operation(lambda: 7) == 7
        assert get_performance_optimizer(settings(tmp_path / "other")) is optimizer
    with pytest.raises(NotInitialized):
        _ = get_performance_optimizer().cache


async def test_a_second_service_in_one_process_takes_over_until_it_stops(tmp_path: Path):
    one, two = FastAPI(), FastAPI()
    async with optimized(one, settings(tmp_path / "one"), "auth"):
        first = get_performance_optimizer()
        async with optimized(two, settings(tmp_path / "two"), "integrity"):
            assert get_performance_optimizer() is not first
        assert get_performance_optimizer() is first


async def test_two_that_end_in_the_order_in_which_they_began_leave_none_behind(tmp_path: Path):
    ends = [asyncio.Event(), asyncio.Event()]
    begun = [asyncio.Event(), asyncio.Event()]

    async def serve(number: int) -> None:
        async with optimized(FastAPI(), settings(tmp_path / str(number)), "auth"):
            begun[number].set()
            await ends[number].wait()

    serving: list[asyncio.Task[None]] = []
    for number in range(2):
        serving.append(asyncio.create_task(serve(number)))
        await begun[number].wait()
    for number in range(2):
        ends[number].set()
        await serving[number]
    assert not get_performance_optimizer().initialized

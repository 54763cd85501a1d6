"""The Redis level against a real server that dies, is slow, forgets, and drops connections."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from acgs1.kit.db import Database
from acgs1.optimizer.cache import IntelligentCache
from acgs1.optimizer.database_level import DatabaseLevel
from acgs1.optimizer.levels import Record, SharedLevel
from acgs1.optimizer.policy import CachePolicy
from acgs1.optimizer.redis_level import RedisLevel
from polling import eventually_async
from redis_server import Proxy, RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.slow]

SCOPES = ("*", "s\t\t")


class Counting(RedisLevel):
    """Counts what is asked of it."""

    asked = 0

    async def read(self, key: str, scopes: Any) -> Record | None:
        self.asked += 1
        return await super().read(key, scopes)


class Caches:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[IntelligentCache] = []

    async def make(
        self, url: str, *, timeout: float = 5.0, database: bool = False, silence: float = 1.0
    ) -> tuple[IntelligentCache, Counting]:
        level = Counting(url, timeout=timeout, silence=silence, size=4)
        levels: list[SharedLevel] = [level]
        if database:
            path = self._folder / "shared.sqlite3"
            levels.append(DatabaseLevel(Database(f"sqlite+aiosqlite:///{path}", pool_size=2), timeout=10))
        cache = IntelligentCache(
            levels=levels,
            default=CachePolicy(ttl=600, jitter=0, refresh_ahead=0),
            owner=f"{self._folder}-{len(self._made)}",
            recovery_seconds=0.05,
        )
        await cache.start()
        self._made.append(cache)
        return cache, level

    async def close(self) -> None:
        for cache in self._made:
            await cache.close()


@pytest.fixture
async def caches(tmp_path: Path):
    made = Caches(tmp_path)
    yield made
    await made.close()


def compute(value: Any) -> Any:
    async def source() -> Any:
        return value

    return source


async def usable(cache: IntelligentCache) -> None:
    async def back() -> bool:
        return cache._levels[0].usable

    await eventually_async(back, "Redis is used again")


async def unusable(cache: IntelligentCache) -> None:
    async def out() -> bool:
        await cache.get("s", "probe", {})
        return not cache._levels[0].usable

    await eventually_async(out, "Redis is left out")


async def test_what_it_keeps_is_canonical_json_under_the_name_of_its_form(redis: RedisServer, caches: Caches):
    cache, _ = await caches.make(redis.url)
    await cache.set("s", "op", {}, {"b": 2.0, "a": ["ä", None]})
    async with Redis.from_url(redis.url) as client:
        (key,) = [key async for key in client.scan_iter("acgs1:cache:record:*")]
        assert await client.hget(key, "payload") == b'acgs1-cache/1 json/1\n{"a":["\xc3\xa4",null],"b":2}'
        assert 0 < await client.pttl(key) <= 600_000
        await client.hset(key, "payload", b'acgs1-cache/1 json/2\n{"a":1}')
    other, _ = await caches.make(redis.url)
    assert await other.get("s", "op", {}) is None, "another release's form is a miss"


def test_redis_is_imported_only_where_it_has_a_url(tmp_path: Path):
    program = (
        "import asyncio, sys\nfrom acgs1.optimizer import get_performance_optimizer as get\n"
        "asyncio.run(get().initialize())\nprint('redis' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"ACGS_HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


async def test_a_holder_that_outlived_its_claim_cannot_write_over_the_next_holder(redis: RedisServer, caches: Caches):
    _, level = await caches.make(redis.url)
    late = await level.claim("k", 0.05)
    assert late is not None

    async def next_holder() -> int | None:
        return await level.claim("k", 60)

    fence = await eventually_async(next_holder, "the claim ends by itself")
    assert fence > late
    assert await level.claim("k", 60) is None
    now = time.time()

    def record(payload: bytes, fence: int) -> Record:
        return Record(payload, now, now + 60, now + 60, 0.1, level.position, fence)

    await level.write([("k", record(b"new", fence))])
    await level.write([("k", record(b"late", late))])
    held = await level.read("k", SCOPES)
    assert held is not None
    assert (held.payload, held.created, held.fence) == (b"new", now, fence)
    await level.release("k", late)
    assert await level.claim("k", 60) is None, "a claim is released by its own holder alone"
    await level.release("k", fence)
    assert await level.claim("k", 60) is not None


async def test_a_server_that_dies_fails_no_call_and_is_used_again_when_it_is_back(redis: RedisServer, caches: Caches):
    cache, level = await caches.make(redis.url, database=True)
    stop = False
    answered = 0

    async def user(number: int) -> None:
        nonlocal answered
        while not stop:
            key = {"n": number, "i": answered % 50}
            assert await cache.get_or_compute("s", "op", key, compute(key), tags=[f"t{answered % 7}"]) == key
            if answered % 100 == 0:
                await cache.invalidate(tags=[f"t{answered % 7}"])
            answered += 1
            await asyncio.sleep(0)

    users = [asyncio.create_task(user(number)) for number in range(8)]

    async def more() -> bool:
        assert not any(one.done() for one in users), [one.exception() for one in users if one.done()]
        return answered > before + 300

    before = answered
    await eventually_async(more, "load before the kill")
    redis.kill()
    before = answered
    await eventually_async(more, "load without the server")
    assert not cache._levels[0].usable
    redis.start()
    await usable(cache)
    asked, before = level.asked, answered
    await cache.clear()
    await eventually_async(more, "load with the server back")
    assert level.asked > asked
    stop = True
    await asyncio.gather(*users)


async def test_a_slow_server_costs_one_timeout_and_is_let_back_in_when_it_is_quick(
    redis: RedisServer, proxy: Proxy, caches: Caches
):
    cache, level = await caches.make(proxy.url, timeout=0.5, silence=60)
    proxy.delay = 2.0
    for number in range(30):
        assert await cache.get_or_compute("s", "op", {"n": number}, compute(number)) == number
    assert level.asked == 1
    assert cache.level_stats["redis"].failures == 1
    proxy.delay = 0.0
    await usable(cache)
    assert await cache.get_or_compute("s", "op", {"n": 99}, compute(99)) == 99
    assert level.asked > 1


async def test_a_server_that_is_gone_costs_no_second_call_anything(redis: RedisServer, caches: Caches):
    cache, level = await caches.make(redis.url)
    redis.kill()
    for number in range(30):
        assert await cache.get_or_compute("s", "op", {"n": number}, compute(number)) == number
    assert level.asked <= 1


async def test_what_was_invalidated_while_the_subscription_was_lost_is_not_served(
    redis: RedisServer, proxy: Proxy, caches: Caches
):
    here, _ = await caches.make(proxy.url)
    there, _ = await caches.make(redis.url)
    await here.get_or_compute("s", "op", {}, compute("old"), tags=["t"])
    await there.get("s", "op", {}, tags=["t"])
    await proxy.cut()
    await there.invalidate(tags=["t"])

    async def forgotten() -> bool:
        return here.entries == 0

    await eventually_async(forgotten, "memory is forgotten with the subscription")
    await proxy.open()
    await usable(here)
    assert await here.get("s", "op", {}, tags=["t"]) is None


async def test_a_subscription_that_falls_silent_counts_as_lost(redis: RedisServer, proxy: Proxy, caches: Caches):
    here, _ = await caches.make(proxy.url, silence=0.2, timeout=0.5)
    await here.set("s", "op", {}, "old", tags=["t"])
    assert here.entries == 1
    proxy.delay = 60.0

    async def forgotten() -> bool:
        return here.entries == 0

    await eventually_async(forgotten, "memory is forgotten with the subscription")
    await unusable(here)


async def test_a_subscription_that_was_dropped_catches_up(redis: RedisServer, caches: Caches):
    here, _ = await caches.make(redis.url)
    there, _ = await caches.make(redis.url)
    async with Redis.from_url(redis.url) as client:
        for round_ in range(5):
            await here.get_or_compute("s", "op", {"n": round_}, compute("old"), tags=["t"])
            await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await there.get("s", "op", {})
            await there.invalidate(tags=["t"])
            await there.clear()
            await usable(here)
            await usable(there)

            async def fresh(round_: int = round_) -> bool:
                return await here.get_or_compute("s", "op", {"n": round_}, compute("new"), tags=["t"]) == "new"

            await eventually_async(fresh, "the new value")


async def test_a_server_that_forgot_everything_serves_nothing_from_before(redis: RedisServer, caches: Caches):
    here, level = await caches.make(redis.url)
    there, _ = await caches.make(redis.url)
    await here.set("s", "op", {}, "old", tags=["t"])
    now = time.time()
    before = Record(b"x", now, now + 60, now + 60, 0.0, level.position)
    async with Redis.from_url(redis.url) as client:
        # The set of invalidations alone is lost, as an eviction would: the records are still there.
        await client.delete("acgs1:cache:scopes")
        assert await there.get("s", "op", {}, tags=["t"]) is None
        await level.read("k", SCOPES)
        await level.write([("k", before)])
        assert await level.read("k", SCOPES) is None, "older than the epoch"
        await client.flushall()
    await there.set("s", "op", {}, "lost with the epoch", tags=["t"])
    await there.get("s", "other", {})
    await there.set("s", "op", {}, "new", tags=["t"])
    await here.clear()

    async def read() -> bool:
        await there.set("s", "op", {}, "newer", tags=["t"])
        return await here.get("s", "op", {}, tags=["t"]) == "newer"

    await eventually_async(read, "the level works again")


async def test_an_invalidation_that_could_not_reach_redis_is_carried_there_by_whoever_hears_of_it(
    redis: RedisServer, proxy: Proxy, caches: Caches
):
    here, _ = await caches.make(proxy.url, database=True)
    there, _ = await caches.make(redis.url, database=True)
    await there.get_or_compute("s", "op", {}, compute("old"), tags=["t"])
    await proxy.cut()
    await unusable(here)
    await here.invalidate(tags=["t"])

    async def gone() -> bool:
        return await there.get("s", "op", {}, tags=["t"]) is None

    await eventually_async(gone, "the old value is gone")
    third, _ = await caches.make(redis.url)

    async def gone_from_redis() -> bool:
        return await third.get("s", "op", {}, tags=["t"]) is None

    await eventually_async(gone_from_redis, "Redis has it too")

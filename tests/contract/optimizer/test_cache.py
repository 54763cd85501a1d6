"""What every arrangement of cache levels promises: process memory alone, with a shared database, with Redis, with both."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from acgs1.core.canonical import CanonicalError
from acgs1.core.clock import ManualClock
from acgs1.kit.db import Database
from acgs1.kit.errors import DependencyUnavailable, NotFound
from acgs1.optimizer.batching import AsyncBatchProcessor
from acgs1.optimizer.cache import IntelligentCache
from acgs1.optimizer.database_level import DatabaseLevel
from acgs1.optimizer.levels import SharedLevel
from acgs1.optimizer.policy import CachePolicy, ModelCodec
from redis_server import RedisServer

POLICY = CachePolicy(ttl=10, jitter=0, refresh_ahead=0.2, stale_if_error=5)


class Source:
    """Counts its reads; can be slow and can fail."""

    def __init__(self) -> None:
        self.value: Any = {"v": 1}
        self.reads = 0
        self.fail = False
        self.gate: asyncio.Event | None = None
        self.reading = asyncio.Event()

    async def __call__(self) -> Any:
        self.reads += 1
        seen = self.value
        self.reading.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.fail:
            raise ConnectionError("the source is gone")
        return seen


Make = Callable[[], Awaitable[IntelligentCache]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


SHARED = [
    "database",
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("redis and database", marks=pytest.mark.redis),
]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["memory", *SHARED])
async def make(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Make]:
    """Makes caches as separate processes would have them: each its own memory, the same shared level."""
    made: list[IntelligentCache] = []
    server: RedisServer | None = request.getfixturevalue("redis") if "redis" in request.param else None
    if server is not None:
        async with Redis.from_url(server.url) as client:
            await client.flushall()

    async def build() -> IntelligentCache:
        levels: list[SharedLevel] = []
        if "redis" in request.param:
            from acgs1.optimizer.redis_level import RedisLevel

            levels.append(RedisLevel(server.url, timeout=10, silence=10, size=2))
        if "database" in request.param:
            database = Database(f"sqlite+aiosqlite:///{tmp_path / 'shared.sqlite3'}", pool_size=2)
            levels.append(DatabaseLevel(database, clock=clock, timeout=10, poll_seconds=0.01))
        owner = f"{tmp_path}-{len(made)}"
        cache = IntelligentCache(levels=levels, default=POLICY, clock=clock, rng=random.Random(1), owner=owner)
        await cache.start()
        made.append(cache)
        return cache

    yield build
    for cache in made:
        await cache.close()


@pytest.fixture
async def cache(make: Make) -> IntelligentCache:
    return await make()


async def test_a_value_is_there_until_its_ttl_and_not_after(cache, clock):
    await cache.set("auth", "jwks", {"a": 1, "b": [2]}, {"keys": []}, ttl=10)
    assert await cache.get("auth", "jwks", {"b": [2], "a": 1}) == {"keys": []}
    assert await cache.get("auth", "jwks", {"a": 1}) is None
    assert await cache.get("auth", "other", {"a": 1, "b": [2]}) is None
    clock.advance(9.9)
    assert await cache.get("auth", "jwks", {"a": 1, "b": [2]}) == {"keys": []}
    clock.advance(0.2)
    assert await cache.get("auth", "jwks", {"a": 1, "b": [2]}) is None


async def test_a_new_version_of_what_it_depends_on_never_sees_an_old_value(cache):
    await cache.set("fv", "report", {}, "old", version="aaa")
    assert await cache.get("fv", "report", {}, version="bbb") is None
    assert await cache.get("fv", "report", {}, version="aaa") == "old"


async def test_a_caller_who_changes_what_it_got_changes_nobody_elses(cache):
    source = Source()
    first, second = await asyncio.gather(*(cache.get_or_compute("s", "op", {}, source) for _ in range(2)))
    first["v"] = "mine"
    assert second == {"v": 1}
    assert await cache.get("s", "op", {}) == {"v": 1}
    assert source.value == {"v": 1}


async def test_the_first_answer_is_the_same_as_the_one_that_comes_from_a_shared_level(make):
    one, two = await make(), await make()

    async def compute() -> dict[str, int]:
        return {"b": 1, "a": 2}

    for cache in (one, two):
        cache.declare("s", "op", CachePolicy(hand_out_same=True, codec=ModelCodec(dict[str, int])))
    answers = [await cache.get_or_compute("s", "op", {}, compute) for cache in (one, two)]
    assert [list(answer) for answer in answers] == [["a", "b"]] * 2


async def test_however_many_ask_at_once_it_is_computed_once(cache):
    source = Source()
    assert await asyncio.gather(*(cache.get_or_compute("s", "op", {}, source) for _ in range(50))) == [{"v": 1}] * 50
    assert source.reads == 1
    stats = cache.operations["s", "op"]
    assert (stats.loads, stats.joined, stats.misses) == (1, 49, 1)
    assert stats.hit_rate == 0.0, "each of them waited for the load"


async def test_the_figures_add_up_to_the_calls(cache, clock):
    source = Source()
    for number in range(6):
        await cache.get_or_compute("s", "op", {"n": number % 2}, source)
    await cache.get("s", "op", {"n": 7})
    stats = cache.operations["s", "op"]
    assert sum(stats.hits.values()) + stats.joined + stats.misses == 7
    assert (stats.misses, stats.loads, stats.hits) == (3, 2, {"local": 4})
    assert stats.entries == 2
    assert stats.bytes_held == cache.bytes_held
    clock.advance(3)
    await cache.get_or_compute("s", "op", {"n": 0}, source)
    assert stats.ages["local"] == 3
    await cache.invalidate(service="s")
    assert (stats.entries, stats.bytes_held) == (0, 0)


async def test_nothing_found_is_not_kept(cache):
    source = Source()
    source.value = None
    assert await cache.get_or_compute("s", "op", {}, source) is None
    assert await cache.get_or_compute("s", "op", {}, source) is None
    assert source.reads == 2


@pytest.mark.parametrize("error", [NotFound("not here"), DependencyUnavailable("away"), ValueError("broken")])
async def test_an_error_is_not_kept(cache, error):
    asked = 0

    async def source() -> None:
        nonlocal asked
        asked += 1
        raise error

    for _ in range(3):
        with pytest.raises(type(error)):
            await cache.get_or_compute("s", "op", {}, source)
    assert asked == 3


async def test_a_policy_says_which_values_are_kept(cache):
    cache.declare("pdp", "decision", CachePolicy(cacheable=lambda value: value["decision"] == "allow"))
    source = Source()
    for value, reads in (({"decision": "deny"}, 2), ({"decision": "allow"}, 1)):
        source.reads, source.value = 0, value
        await cache.get_or_compute("pdp", "decision", value, source)
        await cache.get_or_compute("pdp", "decision", value, source)
        assert source.reads == reads


@pytest.mark.parametrize(
    ("by", "gone"),
    [
        ({"service": "s"}, {"a", "b"}),
        ({"service": "s", "operation": "one"}, {"a"}),
        ({"tags": ["red"]}, {"a", "c"}),
        ({"tags": ["red", "blue"]}, {"a", "b", "c"}),
        ({"service": "s", "tags": ["red"]}, {"a"}),
    ],
)
async def test_invalidation_forgets_what_matches_and_keeps_the_rest(cache, by, gone):
    where = {"a": ("s", "one", ["red"]), "b": ("s", "two", ["blue"]), "c": ("t", "one", ["red"]), "d": ("t", "x", [])}
    for name, (service, operation, tags) in where.items():
        await cache.set(service, operation, {}, name, tags=tags)
    await cache.invalidate(**by)
    for name, (service, operation, tags) in where.items():
        expected = None if name in gone else name
        assert await cache.get(service, operation, {}, tags=tags) == expected


async def test_a_load_overtaken_by_an_invalidation_is_not_kept_and_takes_no_new_callers(cache):
    source = Source()
    source.gate = asyncio.Event()
    early = asyncio.create_task(cache.get_or_compute("s", "op", {}, source, tags=["t"]))
    await source.reading.wait()
    source.value = {"v": 2}
    await cache.invalidate(tags=["t"])
    late = asyncio.create_task(cache.get_or_compute("s", "op", {}, source, tags=["t"]))
    source.reading.clear()
    await source.reading.wait()
    source.gate.set()
    assert await early == {"v": 1}, "those who asked before the change may have the old value"
    assert await late == {"v": 2}
    assert await cache.get("s", "op", {}, tags=["t"]) == {"v": 2}


async def test_it_is_refreshed_in_the_background_before_it_expires(cache, clock):
    source = Source()
    await cache.get_or_compute("s", "op", {}, source)
    await _finished(cache)
    clock.advance(8.1)
    source.value = {"v": 2}
    source.reading.clear()
    assert await cache.get_or_compute("s", "op", {}, source) == {"v": 1}, "nobody waits for the refresh"
    await source.reading.wait()
    await _until(lambda: cache.get("s", "op", {}), {"v": 2})
    clock.advance(5)
    assert await cache.get("s", "op", {}) == {"v": 2}
    assert source.reads == 2


async def test_a_failing_source_is_bridged_by_a_stale_value_within_the_bound(cache, clock):
    source = Source()
    await cache.get_or_compute("s", "op", {}, source)
    source.fail = True
    clock.advance(14.9)
    assert await cache.get_or_compute("s", "op", {}, source) == {"v": 1}
    clock.advance(0.2)
    with pytest.raises(ConnectionError):
        await cache.get_or_compute("s", "op", {}, source)


async def test_a_refusal_is_an_answer_that_no_stale_value_hides(cache, clock):
    async def refuse() -> Any:
        raise NotFound("there is none any more")

    async def fail() -> Any:
        raise DependencyUnavailable("the database is away")

    await cache.get_or_compute("s", "op", {}, Source())
    clock.advance(11)
    assert await cache.get_or_compute("s", "op", {}, fail) == {"v": 1}
    with pytest.raises(NotFound):
        await cache.get_or_compute("s", "op", {}, refuse)


async def test_an_invalidated_value_never_comes_back_as_stale(cache, clock):
    source = Source()
    await cache.get_or_compute("s", "op", {}, source)
    await cache.invalidate(service="s")
    source.fail = True
    with pytest.raises(ConnectionError):
        await cache.get_or_compute("s", "op", {}, source)


async def test_a_caller_who_leaves_harms_nobody_and_the_last_takes_the_load_along(cache):
    source = Source()
    source.gate = asyncio.Event()
    leaver, stayer = (asyncio.create_task(cache.get_or_compute("s", "op", {}, source)) for _ in range(2))
    await source.reading.wait()
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    source.gate.set()
    assert await stayer == {"v": 1}

    cancelled = asyncio.Event()
    entered = asyncio.Event()

    async def endless() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    alone = asyncio.create_task(cache.get_or_compute("s", "endless", {}, endless))
    await entered.wait()
    alone.cancel()
    await cancelled.wait()
    assert await cache.get_or_compute("s", "endless", {}, Source()) == {"v": 1}


async def test_a_wall_clock_that_jumps_back_prolongs_no_life_in_process_memory():
    class Jumping(ManualClock):
        back = timedelta(0)

        def now(self) -> datetime:
            return super().now() - self.back

    jumping = Jumping()
    cache = IntelligentCache(clock=jumping, default=POLICY)
    await cache.set("s", "op", {}, 1)
    jumping.back = timedelta(hours=1)
    jumping.advance(10.1)
    assert await cache.get("s", "op", {}) is None


async def test_params_without_a_json_form_are_refused(cache):
    with pytest.raises(CanonicalError):
        await cache.get("s", "op", {"x": object()})
    with pytest.raises(ValueError, match="name a service"):
        await cache.invalidate()
    with pytest.raises(ValueError, match="needs the service"):
        await cache.invalidate(operation="x")


async def test_what_its_codec_refuses_is_handed_through_uncached(cache):
    value = object()

    async def compute() -> object:
        return value

    assert await cache.get_or_compute("s", "op", {}, compute) is value
    assert await cache.get("s", "op", {}) is None


async def test_process_memory_stays_within_its_bytes(clock):
    cache = IntelligentCache(max_bytes=20_000, clock=clock, default=CachePolicy(jitter=0, shared=False))
    for number in range(500):
        await cache.set("s", "op", {"n": number}, "x" * 100, tags=[f"t{number}"])
    assert cache.bytes_held <= 20_000
    assert cache.evictions == 500 - cache.entries
    stats = cache.operations["s", "op"]
    assert (stats.evictions, stats.entries, stats.bytes_held) == (cache.evictions, cache.entries, cache.bytes_held)
    assert len(cache._by_scope) <= 3 + 3 * cache.entries, "evicted values leave no index entries behind"


@pytest.mark.parametrize("make", SHARED, indirect=True)
class TestAcrossProcesses:
    async def test_what_one_computed_the_other_reads(self, make):
        one, two = await make(), await make()
        source = Source()
        await one.get_or_compute("s", "op", {}, source, tags=["t"])
        await _until(lambda: two.get("s", "op", {}, tags=["t"]), {"v": 1})
        assert await two.get_or_compute("s", "op", {}, source, tags=["t"]) == {"v": 1}
        assert source.reads == 1

    async def test_an_invalidation_reaches_the_others(self, make):
        one, two = await make(), await make()
        await one.set("s", "op", {}, "old", tags=["t"])
        assert await two.get("s", "op", {}, tags=["t"]) == "old"
        await one.invalidate(tags=["t"])
        await _until(lambda: two.get("s", "op", {}, tags=["t"]), None)

    async def test_a_slow_load_in_another_process_cannot_bring_the_old_value_back(self, make):
        one, two = await make(), await make()
        source = Source()
        source.gate = asyncio.Event()
        slow = asyncio.create_task(two.get_or_compute("s", "op", {}, source, tags=["t"]))
        await source.reading.wait()
        await one.invalidate(tags=["t"])
        source.gate.set()
        await slow
        three = await make()
        assert await three.get("s", "op", {}, tags=["t"]) is None

    async def test_it_tells_what_each_shared_level_holds_of_each_operation(self, make):
        cache = await make()
        for number in range(3):
            await cache.set("s", "many", {"n": number}, "x" * 100)
        await cache.set("s", "one", {}, "y")
        await cache.set("other", "op", {}, "z")
        await cache.get("s", "nothing", {})
        await cache.sample()
        assert cache.level_stats
        for stats in cache.level_stats.values():
            assert {name: held.entries for name, held in stats.held.items()} == {
                ("s", "many"): 3,
                ("s", "one"): 1,
                ("other", "op"): 1,
            }
            assert 300 < stats.held["s", "many"].bytes < 600 > 3 * stats.held["s", "one"].bytes
            assert stats.evictions == 0

    async def test_what_must_stay_in_the_process_does(self, make):
        one, two = await make(), await make()
        for cache in (one, two):
            cache.declare("s", "secret", CachePolicy(shared=False))
        await one.set("s", "secret", {}, "hush")
        assert await two.get("s", "secret", {}) is None


async def test_a_dead_shared_level_costs_no_call_its_answer_and_is_asked_once(tmp_path):
    class Dead(DatabaseLevel):
        asked = 0

        async def read(self, key: str, scopes: Any) -> Any:
            self.asked += 1
            raise ConnectionError("gone")

        async def ping(self) -> None:
            raise ConnectionError("gone")

    level = Dead(Database(f"sqlite+aiosqlite:///{tmp_path / 'x.sqlite3'}"))
    cache = IntelligentCache(levels=[level], owner=str(tmp_path), recovery_seconds=3600)
    await cache.start()
    for number in range(20):
        assert await cache.get_or_compute("s", "op", {"n": number}, Source()) == {"v": 1}
    assert level.asked == 1
    await cache.close()


async def _finished(cache: IntelligentCache) -> None:
    """The value is stored, and the claim to compute it released."""
    await asyncio.gather(*cache._tasks)


async def _until(ask: Callable[[], Awaitable[Any]], expected: Any) -> None:
    async with asyncio.timeout(20):
        while await ask() != expected:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.005)


async def _now(look: Callable[[], Any]) -> Any:
    return look()


async def test_refreshes_wait_for_their_turn_and_hold_up_nobody(clock):
    gate, running, most = asyncio.Event(), 0, 0
    loaded: list[int] = []

    def source(number: int) -> Callable[[], Awaitable[int]]:
        async def load() -> int:
            nonlocal running, most
            loaded.append(number)
            running += 1
            most = max(most, running)
            if clock.monotonic() > 0:
                await gate.wait()
            running -= 1
            return number

        return load

    refreshes = AsyncBatchProcessor(batch_size=2, batch_timeout=0, max_pending=3, concurrency=1)
    cache = IntelligentCache(default=POLICY, clock=clock, rng=random.Random(1), refreshes=refreshes)

    async def read(number: int) -> int:
        return await cache.get_or_compute("s", "op", {"n": number}, source(number))

    for number in range(8):
        await read(number)
    loaded.clear()
    clock.advance(9)
    for number in range(8):
        assert await read(number) == number, "the old value, at once"
    await _until(lambda: _now(lambda: (running, refreshes.pending)), (2, 1))
    assert most == 2
    stats = cache.operations["s", "op"]
    assert (stats.refreshes, stats.refreshes_put_off) == (8, 5)

    waited, put_off = next(n for n in range(8) if n not in loaded), 7
    clock.advance(1.5)
    asking = [asyncio.create_task(read(number)) for number in (waited, put_off)]
    # Whoever waits for an answer does not stand in the queue.
    await _until(lambda: _now(lambda: running), 4)
    gate.set()
    assert await asyncio.gather(*asking) == [waited, put_off]
    await _finished(cache)
    assert sorted(loaded) == sorted({*loaded}), "nothing is loaded twice"
    await cache.close()
    await refreshes.close()


async def test_a_value_that_was_invalidated_is_not_refreshed(clock):
    gate = asyncio.Event()
    loads: list[str] = []

    def source(name: str) -> Callable[[], Awaitable[str]]:
        async def load() -> str:
            loads.append(name)
            if clock.monotonic() > 0:
                await gate.wait()
            return name

        return load

    refreshes = AsyncBatchProcessor(batch_size=1, batch_timeout=0, concurrency=1)
    cache = IntelligentCache(default=POLICY, clock=clock, rng=random.Random(1), refreshes=refreshes)
    for name in "ab":
        await cache.get_or_compute("s", name, {}, source(name))
    clock.advance(9)
    for name in "ab":
        await cache.get_or_compute("s", name, {}, source(name))
    await _until(lambda: _now(lambda: loads), ["a", "b", "a"])
    await cache.invalidate(service="s", operation="b")
    gate.set()
    await _finished(cache)
    assert loads == ["a", "b", "a"]
    await cache.close()
    await refreshes.close()

"""The cache against a source of truth that changes: what it serves is never older than promised, nor from before an invalidation."""

import asyncio
import random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from acgs1.core.clock import ManualClock
from acgs1.optimizer.cache import IntelligentCache
from acgs1.optimizer.policy import CachePolicy

TTL, STALE = 10.0, 5.0
KEYS = st.integers(0, 3)


class SourceDown(Exception):
    pass


class CacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.cache = IntelligentCache(
            max_bytes=4000,  # room for three or four values: eviction is part of the game
            clock=self.clock,
            rng=random.Random(0),
            default=CachePolicy(ttl=TTL, stale_if_error=STALE, shared=False, refresh_ahead=0.2),
        )
        self.truth = dict.fromkeys(range(4), 0)
        # When each version of each key was current for the last time.
        self.current_until: dict[tuple[int, int], float] = {}
        self.floor = dict.fromkeys(range(4), 0)
        self.down = False

    def settle(self) -> None:
        for _ in range(5):
            self.loop.run_until_complete(asyncio.sleep(0))

    async def read(self, key: int) -> Any:
        async def compute() -> dict[str, int]:
            version = self.truth[key]
            await asyncio.sleep(0)
            if self.down:
                raise SourceDown
            return {"version": version}

        return await self.cache.get_or_compute("s", "op", {"key": key}, compute, tags=[f"k{key}"])

    def judge(self, key: int, value: dict[str, int]) -> None:
        version = value["version"]
        assert version >= self.floor[key], "a value from before an invalidation"
        if version != self.truth[key]:
            age = self.clock.monotonic() - self.current_until[key, version]
            assert age <= TTL + (STALE if self.down else 0), f"{age} s out of date"

    @rule(key=KEYS)
    def change(self, key: int) -> None:
        self.current_until[key, self.truth[key]] = self.clock.monotonic()
        self.truth[key] += 1

    @rule(key=KEYS)
    def change_and_invalidate(self, key: int) -> None:
        self.change(key)
        self.loop.run_until_complete(self.cache.invalidate(tags=[f"k{key}"]))
        self.floor[key] = self.truth[key]

    @rule(key=KEYS, readers=st.integers(1, 4))
    def ask(self, key: int, readers: int) -> None:
        async def all_of_them() -> list[Any]:
            return await asyncio.gather(*(self.read(key) for _ in range(readers)), return_exceptions=True)

        for value in self.loop.run_until_complete(all_of_them()):
            if isinstance(value, SourceDown):
                assert self.down
            else:
                self.judge(key, value)

    @rule(key=KEYS)
    def ask_while_it_is_invalidated(self, key: int) -> None:
        async def overtaken() -> Any:
            asked = asyncio.ensure_future(self.read(key))
            await asyncio.sleep(0)
            self.change(key)
            await self.cache.invalidate(tags=[f"k{key}"])
            return (await asyncio.gather(asked, return_exceptions=True))[0]

        self.loop.run_until_complete(overtaken())
        self.floor[key] = self.truth[key]

    @rule(key=KEYS)
    def ask_the_cache_alone(self, key: int) -> None:
        value = self.loop.run_until_complete(self.cache.get("s", "op", {"key": key}, tags=[f"k{key}"]))
        if value is not None:
            self.judge(key, value)

    @rule(seconds=st.sampled_from([0.5, 3.0, 7.9, 8.5, 12.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.settle()  # a refresh in the background is not held up while time passes
        self.clock.advance(seconds)

    @rule(down=st.booleans())
    def the_source(self, down: bool) -> None:
        self.down = down

    @invariant()
    def memory_is_bounded(self) -> None:
        assert self.cache.bytes_held <= 4000

    def teardown(self) -> None:
        self.loop.run_until_complete(self.cache.close())
        self.loop.close()


def test_what_the_cache_serves_is_as_fresh_as_promised():
    run_state_machine_as_test(
        CacheMachine,
        settings=settings(
            max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )

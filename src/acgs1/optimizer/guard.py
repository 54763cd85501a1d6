"""A shared cache level behind a timeout and a circuit breaker, so that its failure costs a miss and nothing else."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from acgs1.kit.breaker import CircuitOpenError, Config, State, WindowType, breakers
from acgs1.kit.tracing import CLIENT, span
from acgs1.optimizer.batching import BatchClosed, BatchFull, GroupCommit
from acgs1.optimizer.levels import EVERYTHING, Held, Record, SharedLevel

T = TypeVar("T")

_log = logging.getLogger(__name__)

# One failed call shuts the level out: a dead store costs the callers of that moment one short timeout, once. Probes run
# in the background, never on a caller's time.
_BREAKER: Final = Config(
    window_type=WindowType.COUNT_BASED,
    window_size=1,
    minimum_number_of_calls=1,
    failure_rate_threshold=1.0,
    wait_duration_in_open=0.5,
    permitted_calls_in_half_open=1,
    max_concurrent_probes=1,
)

_START_SECONDS: Final = 2.0
_SAMPLE_SECONDS: Final = 5.0
_MOST_OWED: Final = 1000


@dataclass(slots=True)
class LevelStats:
    """One shared level: failed calls, writes dropped because too many waited, and what it held by (service, operation) when it was last
    sampled. `evictions`: values that have lost their room there, as far as the level can tell whose they were (see its class)."""

    failures: int = 0
    dropped_writes: int = 0
    evictions: int = 0
    held: dict[tuple[str, str], Held] = field(default_factory=dict[tuple[str, str], Held])


class GuardedLevel:
    """What the cache sees of a shared level.

    Writes are folded into groups. An invalidation that could not be delivered is owed, and the level is not used before
    it has it: what it may have kept meanwhile is out of date.
    """

    def __init__(
        self,
        level: SharedLevel,
        *,
        owner: str,
        recovery_seconds: float,
        heard: Callable[[str], None],
        lost_track: Callable[[], None],
    ) -> None:
        self.level = level
        self.stats = LevelStats()
        self._recovery_seconds = recovery_seconds
        self._heard = heard
        self._lost_track = lost_track
        self._breaker = breakers().get(f"{owner}->{level.name}", _BREAKER)
        self._owed: dict[str, None] = {}
        self._started = False
        self._closing = False
        self._recovering: asyncio.Task[None] | None = None
        self._writes: GroupCommit[tuple[str, Record], None] = GroupCommit(
            self._flush, name=f"cache-{level.name}", max_batch=256, max_pending=2048
        )

    @property
    def usable(self) -> bool:
        """Whether callers may turn to it now."""
        return self._started and not self._owed and self._breaker.state is State.CLOSED

    async def start(self) -> None:
        """Connect; a level that does not answer is brought in as soon as it does."""
        if not await self._bring_in():
            self._recover()

    async def close(self) -> None:
        await self._writes.close()
        self._closing = True
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.wait([self._recovering])
        with contextlib.suppress(Exception):
            await self.level.close()

    async def read(self, key: str, scopes: Sequence[str]) -> Record | None:
        """The valid record, or None: none there, or the level failed."""
        return await self._call(lambda: self.level.read(key, scopes))

    async def write(self, key: str, record: Record) -> None:
        """Return when the record is written, or when it will not be."""
        if not self.usable:
            return
        try:
            await self._writes.submit((key, record))
        except (BatchFull, BatchClosed):
            self.stats.dropped_writes += 1

    async def invalidate(self, scopes: Sequence[str]) -> None:
        """Deliver the invalidation, or owe it."""
        if not self.usable or await self._call(lambda: _done(self.level.invalidate(scopes))) is None:
            self._owed.update(dict.fromkeys(scopes))
            if len(self._owed) > _MOST_OWED:
                self._owed = {EVERYTHING: None}
            self._recover()

    async def sample(self, service: str) -> None:
        """Note what the level holds of `service`. One that is too slow to say so is not shut out for it."""
        if not self.usable:
            return
        try:
            async with asyncio.timeout(_SAMPLE_SECONDS):
                sample = await self.level.sample(service)
        except Exception as error:  # noqa: BLE001 - as in `_call`
            _log.info("cache level %s cannot be sampled now: %s", self.level.name, type(error).__name__)
            return
        if sample is not None:
            kept = {name: held for name, held in self.stats.held.items() if name[0] != service}
            self.stats.held = kept | {(service, operation): held for operation, held in sample.held.items()}
            self.stats.evictions = sample.evictions

    async def claim(self, key: str, seconds: float) -> int | None:
        return await self._call(lambda: self.level.claim(key, seconds))

    async def release(self, key: str, fence: int) -> None:
        await self._call(lambda: _done(self.level.release(key, fence)))

    async def _call(self, operation: Callable[[], Awaitable[T]]) -> T | None:
        try:
            async with self._breaker, asyncio.timeout(self.level.timeout):
                with span(f"cache {self.level.name}", CLIENT, {"db.system.name": self.level.name}):
                    return await operation()
        except CircuitOpenError:
            return None
        except Exception as error:  # noqa: BLE001 - a cache level may fail in any way without harm to the call
            self.stats.failures += 1
            _log.warning("cache level %s failed: %s", self.level.name, type(error).__name__)
            self._recover()
            return None

    async def _flush(self, records: list[tuple[str, Record]]) -> list[None]:
        if self.usable:
            await self._call(lambda: self.level.write(records))
        return [None] * len(records)

    def _recover(self) -> None:
        if not self._closing and (self._recovering is None or self._recovering.done()):
            self._recovering = asyncio.get_running_loop().create_task(
                self._probe(), name=f"cache-{self.level.name}-recovery"
            )

    async def _probe(self) -> None:
        while not self.usable:
            if await self._bring_in() and self.usable:
                _log.warning("cache level %s is back", self.level.name)
                return
            await asyncio.sleep(self._recovery_seconds)

    async def _bring_in(self) -> bool:
        """One attempt to make it usable: connected, answering, and with nothing owed."""
        try:
            async with self._breaker, asyncio.timeout(_START_SECONDS):
                if self._started:
                    # As quick as it has to be for a call: one that is merely slow would cost the next caller a timeout again.
                    async with asyncio.timeout(self.level.timeout):
                        await self.level.ping()
                else:
                    await self.level.start(self._heard, self._lost_track)
                    self._started = True
                if self._owed:
                    owed = list(self._owed)
                    await self.level.invalidate(owed)
                    for scope in owed:
                        self._owed.pop(scope, None)
        except CircuitOpenError:
            return False
        except Exception as error:  # noqa: BLE001 - not there yet, in whatever way
            _log.info("cache level %s does not answer yet: %s", self.level.name, type(error).__name__)
            return False
        return True


async def _done(awaitable: Awaitable[None]) -> bool:
    await awaitable
    return True

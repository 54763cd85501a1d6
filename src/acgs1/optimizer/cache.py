"""IntelligentCache: process memory, then Redis, then a database table, in front of whatever computes the value."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar

from acgs1.core.clock import Clock, SystemClock
from acgs1.core.errors import DomainError
from acgs1.kit.errors import DependencyUnavailable
from acgs1.optimizer.batching import AsyncBatchProcessor, BatchClosed, BatchFull
from acgs1.optimizer.guard import GuardedLevel, LevelStats
from acgs1.optimizer.levels import EVERYTHING, LONGEST_SECONDS, Record, SharedLevel, cache_key, scope, scopes_of
from acgs1.optimizer.policy import CachePolicy, seal, unseal
from acgs1.optimizer.s3fifo import S3Fifo

T = TypeVar("T")

_log = logging.getLogger(__name__)

# What a slot costs besides its payload: key, slot, index entries (measured with tracemalloc, rounded up).
_SLOT_OVERHEAD: Final = 1200

_CLOSE_SECONDS: Final = 5.0
# How old the figures of what shared levels hold may be.
_SAMPLE_SECONDS: Final = 15.0
# How long an upper level may take to announce what a lower one has announced, before it is told.
_RELAY_SECONDS: Final = 0.02
# An upper level's announcement this much earlier than a lower one's is taken for the same.
_SAME_SECONDS: Final = 0.15
_ANNOUNCEMENTS: Final = 1024


@dataclass(slots=True)
class OperationStats:
    """Counts for one operation since the cache was made.

    A call is one of: a hit in `hits[level]`, `joined` (shared another's load), or one of `misses`: no level had the value, so that it
    was computed (or, by `get`, not given). `loads` counts what was computed, refreshes in the background included; a load that
    failed is one of `stale` (an old value was served instead) or of `errors`.
    """

    hits: dict[str, int] = field(default_factory=dict[str, int])
    ages: dict[str, float] = field(default_factory=dict[str, float])
    """By level: the sum of the ages of the values it answered with, in seconds."""
    level_seconds: dict[str, float] = field(default_factory=dict[str, float])
    """By shared level: time spent on reading it."""
    written_bytes: dict[str, int] = field(default_factory=dict[str, int])
    """By shared level: bytes handed to it."""
    misses: int = 0
    loads: int = 0
    joined: int = 0
    stale: int = 0
    errors: int = 0
    refreshes: int = 0
    """Loads begun in the background."""
    refreshes_put_off: int = 0
    """Refreshes for which there was no room: the value lives on until its TTL is over, or a later reader finds room."""
    load_seconds: float = 0.0
    entries: int = 0
    bytes_held: int = 0
    evictions: int = 0

    @property
    def hit_rate(self) -> float:
        """Fraction of calls answered without waiting for a load, one's own or another's; 0.0 before the first call."""
        hits = sum(self.hits.values())
        calls = hits + self.misses + self.joined
        return hits / calls if calls else 0.0


@dataclass(slots=True)
class _Slot:
    """A value in process memory; all instants are monotonic seconds."""

    value: Any
    scopes: tuple[str, ...]
    loaded: float
    refresh_at: float
    expires: float
    stale_until: float
    weight: int
    stats: OperationStats
    accesses: int = 0


@dataclass(frozen=True, slots=True)
class _Call:
    key: str
    service: str
    operation: str
    scopes: tuple[str, ...]
    policy: CachePolicy
    stats: OperationStats


@dataclass(slots=True, eq=False)
class _Flight:
    """A load that is under way. `overtaken`: an invalidation came meanwhile, so its value must not be kept.
    `background`: it goes on though nobody waits; `queued`: it waits for its turn, and nobody may wait for it. `refused`: another
    process computes the value.
    The future gives (what is kept, whether it is handed out as it is)."""

    call: _Call
    future: "asyncio.Future[tuple[Any, bool]]"
    task: "asyncio.Task[None] | None" = None
    waiters: int = 0
    background: bool = False
    queued: bool = False
    overtaken: bool = False
    refused: bool = False


class IntelligentCache:
    """A cache of three levels with single flight, early refresh, bounded staleness and tag invalidation.

    Values are addressed by service, operation and params (plain JSON data), and by `version`: the hash of the policy
    set or constitution that they depend on, so that a new version never sees an old value. Their policy is what
    `declare` said, or `default`.

    Nothing here makes a call fail that would succeed without a cache: a level that fails is skipped.
    `start` connects the shared levels (before that, and without any, only process memory is used).

    `claim_seconds`: how long a process that computes a value may hold up others that want it, should it die meanwhile.
    `refreshes`: where early refreshes wait for their turn, so that many values of the same age do not take from callers what their
    own loads need; default: four at once.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 16 * 1024 * 1024,
        levels: Sequence[SharedLevel] = (),
        default: CachePolicy | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        owner: str = "cache",
        recovery_seconds: float = 1.0,
        claim_seconds: float = 2.0,
        refreshes: AsyncBatchProcessor | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._default = default or CachePolicy()
        self._policies: dict[tuple[str, str], CachePolicy] = {}
        self._stats: dict[tuple[str, str], OperationStats] = {}
        self._slots: S3Fifo[_Slot] = S3Fifo(max_bytes, on_evict=self._evicted)
        self._by_scope: dict[str, set[str]] = {}
        self._flights: dict[str, _Flight] = {}
        self._levels = [
            GuardedLevel(
                level,
                owner=owner,
                recovery_seconds=recovery_seconds,
                heard=partial(self._heard, index),
                lost_track=lambda: self._apply([EVERYTHING]),
            )
            for index, level in enumerate(levels)
        ]
        self._claim_seconds = claim_seconds
        self._refreshes = refreshes or AsyncBatchProcessor(
            batch_size=4, batch_timeout=0, max_pending=256, concurrency=1, name="refreshes"
        )
        # By upper level: when it last announced a scope (monotonic seconds); only what a lower one might repeat.
        self._announced: list[dict[str, float]] = [{} for _ in levels]
        self._epoch = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._sampling: asyncio.Task[None] | None = None

    def declare(self, service: str, operation: str, policy: CachePolicy) -> None:
        """Cache the values of `operation` by `policy` from now on."""
        self._policies[service, operation] = policy

    async def start(self) -> None:
        """Connect the shared levels. One that does not answer is left out until it does."""
        for guarded in self._levels:
            await guarded.start()
        if self._levels:
            self._sampling = asyncio.create_task(self._sample_now_and_then(), name="cache-sample")

    async def close(self) -> None:
        """Stop loads in the background, finish the others and pending writes, and let go of every connection."""
        self.stop_refreshing()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.wait([self._sampling])
        for guarded in self._levels:
            await guarded.close()
        self._slots.clear()
        self._by_scope.clear()
        for stats in self._stats.values():
            stats.entries = stats.bytes_held = 0

    def stop_refreshing(self) -> None:
        """Give up the loads in the background that nobody waits for, and begin no more."""
        self._closed = True
        for flight in list(self._flights.values()):
            if flight.background and flight.task is not None:
                flight.task.cancel()

    async def get(
        self, service: str, operation: str, params: object, *, version: str | None = None, tags: Sequence[str] = ()
    ) -> Any | None:
        """The cached value, or None. `tags` must be those that it was set with."""
        call = self._call(service, operation, params, version, tags)
        slot = self._fresh_slot(call)
        if slot is not None:
            return self._serve(call, slot)
        epoch = self._epoch
        found = await self._read_shared(call)
        if found is not None and self._clock.now().timestamp() < found[1].expires:
            guarded, record = found
            kept = _decode_to_keep(call, record)
            if kept is not None:
                if epoch == self._epoch:
                    self._keep(call, kept, record)
                self._count_hit(call, guarded.level.name, record)
                return self._unpack(call, kept)
        call.stats.misses += 1
        return None

    async def set(
        self,
        service: str,
        operation: str,
        params: object,
        value: object,
        *,
        version: str | None = None,
        tags: Sequence[str] = (),
        ttl: float | None = None,
    ) -> None:
        """Cache `value`. An invalidation between the read it came from and this call goes unnoticed: where that matters
        use `get_or_compute`, which notices."""
        call = self._call(service, operation, params, version, tags)
        positions = [guarded.level.position for guarded in self._levels]
        packed = _pack(call, value)
        if packed is not None:
            kept, payload = packed
            jittered = self._ttl(call, kept) if ttl is None else ttl
            record = self._record(call, payload, 0.0, jittered)
            self._keep(call, kept, record)
            await self._write_shared(call, record, positions)

    async def get_or_compute(
        self,
        service: str,
        operation: str,
        params: object,
        compute: Callable[[], Awaitable[T]],
        *,
        version: str | None = None,
        tags: Sequence[str] = (),
    ) -> T:
        """The cached value, or what `compute` returns, which is then cached.

        However many callers ask at once, `compute` runs once (across processes too, where Redis is there). It runs in a
        task of its own: a caller who is cancelled harms nobody; when the last one is, it is cancelled as well.
        Raises what `compute` raises, unless a stale value may stand in (see CachePolicy).
        """
        call = self._call(service, operation, params, version, tags)
        slot = self._fresh_slot(call)
        if slot is not None:
            if self._clock.monotonic() >= slot.refresh_at and call.key not in self._flights and not self._closed:
                call.stats.refreshes += 1
                self._take_off(call, compute, background=True)
            return self._serve(call, slot)
        flight = self._flights.get(call.key)
        if flight is None or flight.queued:
            flight = self._take_off(call, compute, background=False)
        else:
            call.stats.joined += 1
        return await self._join(flight)

    async def invalidate(
        self, *, service: str | None = None, operation: str | Sequence[str] | None = None, tags: Sequence[str] = ()
    ) -> None:
        """Forget every value that matches: of this service, of this operation (or any of these), with any of these tags.

        On return this process and the shared levels have forgotten them; other processes follow within 100 ms. A load
        that is under way gives its value to those who already wait for it and to nobody else. A shared level that cannot
        be reached is owed the invalidation and not read before it has it.
        Raises ValueError when nothing is named: that is what `clear` is for.
        """
        if service is None and not operation and not tags:
            raise ValueError("name a service, an operation or tags; `clear` forgets everything")
        operations = [operation] if isinstance(operation, str) else operation or [None]
        await self._invalidate([scope(service, name, tag) for name in operations for tag in tags or [None]])

    async def sample(self) -> None:
        """Have `level_stats` say what the shared levels hold now of the services that use this cache."""
        for service in sorted({service for service, _ in self._stats}):
            for guarded in self._levels:
                await guarded.sample(service)

    async def _sample_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS * (1 + self._rng.random() / 4))
            await self.sample()

    async def clear(self) -> None:
        """Forget everything, on every level and in every process."""
        await self._invalidate([EVERYTHING])

    @property
    def bytes_held(self) -> int:
        """Bytes in process memory, by the cache's own book-keeping."""
        return self._slots.weight

    @property
    def entries(self) -> int:
        return len(self._slots)

    @property
    def evictions(self) -> int:
        return self._slots.evictions

    @property
    def loading(self) -> bool:
        """Whether anything is being computed, stored or refreshed now."""
        return bool(self._tasks)

    @property
    def operations(self) -> Mapping[tuple[str, str], OperationStats]:
        """Counts by (service, operation)."""
        return self._stats

    @property
    def adaptive_ttls(self) -> Mapping[tuple[str, str], float]:
        """The TTL in seconds that each adaptive rule chooses now, by (service, operation)."""
        return {name: policy.adaptive.ttl() for name, policy in self._policies.items() if policy.adaptive}

    @property
    def level_stats(self) -> Mapping[str, LevelStats]:
        """Counts by name of the shared level; what it holds, as of the last sample."""
        return {guarded.level.name: guarded.stats for guarded in self._levels}

    # -- calls ---------------------------------------------------------------------------------------------------

    # -- calls --

    def _call(self, service: str, operation: str, params: object, version: str | None, tags: Sequence[str]) -> _Call:
        name = (service, operation)
        stats = self._stats.get(name)
        if stats is None:
            stats = self._stats[name] = OperationStats()
        return _Call(
            cache_key(service, operation, version, params),
            service,
            operation,
            scopes_of(service, operation, tuple(tags)),
            self._policies.get(name, self._default),
            stats,
        )

    def _fresh_slot(self, call: _Call) -> _Slot | None:
        slot = self._slots.get(call.key)
        return slot if slot is not None and self._clock.monotonic() < slot.expires else None

    def _serve(self, call: _Call, slot: _Slot) -> Any:
        slot.accesses += 1
        _count_hit(call.stats, "local", self._clock.monotonic() - slot.loaded)
        return self._unpack(call, slot.value)

    def _unpack(self, call: _Call, kept: Any) -> Any:
        """What a caller gets of what is kept: a copy of its own, unless the policy says that all may have the same."""
        if call.policy.codec is None or call.policy.hand_out_same:
            return kept
        return call.policy.codec.decode(kept)

    # -- loads --

    def _take_off(self, call: _Call, compute: Callable[[], Awaitable[Any]], *, background: bool) -> _Flight:
        loop = asyncio.get_running_loop()
        flight = _Flight(call, loop.create_future(), background=background, queued=background)
        # Its outcome may find nobody waiting; that is no error to report at exit.
        flight.future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._flights[call.key] = flight
        work = self._refresh(flight, compute) if background else self._fly(flight, compute)
        flight.task = loop.create_task(work, name=f"cache-{call.service}-{call.operation}")
        self._tasks.add(flight.task)
        flight.task.add_done_callback(self._tasks.discard)
        return flight

    async def _join(self, flight: _Flight) -> Any:
        flight.waiters += 1
        try:
            kept, as_it_is = await asyncio.shield(flight.future)
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.background and not flight.future.done() and flight.task:
                self._withdraw(flight)
                flight.task.cancel()
        return kept if as_it_is else self._unpack(flight.call, kept)

    def _withdraw(self, flight: _Flight) -> None:
        """Nobody joins it any more."""
        if self._flights.get(flight.call.key) is flight:
            del self._flights[flight.call.key]

    def _land(self, flight: _Flight, kept: Any, *, as_it_is: bool = False) -> None:
        """Give those who wait their value. What remains to be done runs on without them."""
        self._withdraw(flight)
        flight.background = True
        if not flight.future.done():
            flight.future.set_result((kept, as_it_is))

    async def _fly(self, flight: _Flight, compute: Callable[[], Awaitable[Any]]) -> None:
        call = flight.call
        claim: tuple[GuardedLevel, int] | None = None
        try:
            found = await self._read_shared(call)
            if found is not None and self._adopt(flight, *found):
                return
            if call.policy.shared and self._levels:
                claim, later = await self._claim_or_await(flight)
                if later is not None and self._adopt(flight, *later):
                    return
                found = later or found
                if claim is None and flight.refused and not flight.waiters:
                    # Another process refreshes it, and nobody waits for it here.
                    self._look_again_later(call.key)
                    return
            await self._load(flight, compute, found[1] if found else None, claim)
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait
            call.stats.errors += 1
            self._withdraw(flight)
            if not flight.future.done():
                flight.future.set_exception(error)
            if flight.background:
                _log.warning("refresh of %s.%s failed: %s", call.service, call.operation, type(error).__name__)
        finally:
            self._withdraw(flight)
            flight.future.cancel()
            if claim is not None:
                await claim[0].release(call.key, claim[1])

    async def _refresh(self, flight: _Flight, compute: Callable[[], Awaitable[Any]]) -> None:
        """Fly when there is room for it, unless the value was loaded or invalidated by then."""

        async def take_off() -> None:
            if self._flights.get(flight.call.key) is flight:
                flight.queued = False
                await self._fly(flight, compute)

        try:
            await self._refreshes.add_operation(take_off)
        except (BatchFull, BatchClosed):
            flight.call.stats.refreshes_put_off += 1
            self._look_again_later(flight.call.key)
        finally:
            self._withdraw(flight)
            flight.future.cancel()

    def _look_again_later(self, key: str) -> None:
        """The value in memory stays as it is; a reader after a quarter of the time that it has left tries again to refresh it."""
        if (slot := self._slots.peek(key)) is not None:
            now = self._clock.monotonic()
            slot.refresh_at = now + max(0.0, slot.expires - now) / 4

    def _adopt(self, flight: _Flight, guarded: GuardedLevel, record: Record) -> bool:
        """Take over what a shared level has, if it is fresh and newer than what is here."""
        call = flight.call
        slot = self._slots.peek(call.key)
        wall, monotonic = self._clock.now().timestamp(), self._clock.monotonic()
        if record.expires <= wall:
            return False
        if slot is not None and monotonic < slot.expires and record.created <= wall - (monotonic - slot.loaded):
            return False
        kept = _decode_to_keep(call, record)
        if kept is None:
            return False
        if not flight.overtaken:
            self._keep(call, kept, record)
        self._count_hit(call, guarded.level.name, record)
        self._land(flight, kept)
        return True

    async def _load(
        self,
        flight: _Flight,
        compute: Callable[[], Awaitable[Any]],
        stale: Record | None,
        claim: tuple[GuardedLevel, int] | None,
    ) -> None:
        call = flight.call
        if not flight.background:
            call.stats.misses += 1
        # Taken before the computation reads anything: see the invariant in `levels`.
        positions = [guarded.level.position for guarded in self._levels]
        started = self._clock.monotonic()
        try:
            value = await compute()
        except Exception as error:
            # A refusal is an answer, newer than what is kept; only a failure may be bridged.
            refused = isinstance(error, DomainError) and not isinstance(error, DependencyUnavailable)
            kept = None if refused or flight.overtaken else self._stale(call, stale)
            if kept is None:
                raise
            call.stats.stale += 1
            _log.warning("%s.%s: stale value served: %s", call.service, call.operation, type(error).__name__)
            self._land(flight, kept)
            return
        seconds = self._clock.monotonic() - started
        call.stats.loads += 1
        call.stats.load_seconds += seconds
        packed = _pack(call, value)
        if packed is None or flight.overtaken:
            self._land(flight, value if packed is None else packed[0], as_it_is=packed is None)
            return
        kept, payload = packed
        record = self._record(call, payload, seconds, self._ttl(call, kept))
        self._keep(call, kept, record)
        self._land(flight, kept)
        await self._write_shared(call, record, positions, claim)

    def _stale(self, call: _Call, record: Record | None) -> Any | None:
        slot = self._slots.peek(call.key)
        if slot is not None and self._clock.monotonic() < slot.stale_until:
            return slot.value
        if record is not None and self._clock.now().timestamp() < record.stale_until:
            return _decode_to_keep(call, record)
        return None

    async def _claim_or_await(
        self, flight: _Flight
    ) -> tuple[tuple[GuardedLevel, int] | None, tuple[GuardedLevel, Record] | None]:
        """Claim the right to compute, or wait for the process that has it: the claim, and what it has stored meanwhile.

        The first level that can be reached arbitrates. A claim ends by itself after `claim_seconds`, so that a process
        which died delays the others at most that long; nobody waits longer than that, whatever the others do. A process
        that outlives its claim may still write, but never over what a later holder has written: see `Record.fence`.
        """
        call = flight.call
        guarded = next((guarded for guarded in self._levels if guarded.usable), None)
        pause = 0.002
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._claim_seconds
        while guarded is not None and guarded.usable and loop.time() < deadline:
            fence = await guarded.claim(call.key, self._claim_seconds)
            if fence == 0:
                return None, None
            if fence is not None:
                # Whoever had the claim before may have stored the value since the last look.
                return (guarded, fence), await self._read_shared(call)
            if not guarded.usable:
                break
            flight.refused = True
            if flight.background and not flight.waiters:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.05)
            found = await self._read_shared(call)
            if found is not None and found[1].expires > self._clock.now().timestamp():
                return None, found
        return None, None

    # -- keeping --

    def _ttl(self, call: _Call, kept: Any) -> float:
        rule = call.policy.adaptive
        if rule is None:
            ttl = call.policy.ttl
        else:
            slot = self._slots.peek(call.key)
            if slot is not None:
                rule.observe_load(
                    age=self._clock.monotonic() - slot.loaded, changed=slot.value != kept, accesses=slot.accesses
                )
            ttl = rule.ttl()
        return ttl * (1 - call.policy.jitter * self._rng.random())

    def _record(self, call: _Call, payload: bytes, load_seconds: float, ttl: float) -> Record:
        now = self._clock.now().timestamp()
        expires = now + min(ttl, LONGEST_SECONDS)
        stale_until = min(expires + call.policy.stale_if_error, now + LONGEST_SECONDS)
        return Record(payload, now, expires, stale_until, load_seconds, 0)

    def _keep(self, call: _Call, kept: Any, record: Record) -> None:
        """Put it into process memory, where time is monotonic: a wall clock that jumps back must not prolong a life."""
        now, wall = self._clock.monotonic(), self._clock.now().timestamp()
        life = record.expires - record.created
        left = min(record.expires - wall, life)
        stale_left = min(record.stale_until - wall, record.stale_until - record.created)
        slot = _Slot(
            value=kept,
            scopes=call.scopes,
            loaded=now - max(0.0, wall - record.created),
            refresh_at=now + left - life * call.policy.refresh_ahead,
            expires=now + left,
            stale_until=now + stale_left,
            weight=(len(record.payload) if call.policy.weigh is None else call.policy.weigh(kept)) + _SLOT_OVERHEAD,
            stats=call.stats,
        )
        self._forget(call.key)
        if self._slots.set(call.key, slot, slot.weight):
            slot.stats.entries += 1
            slot.stats.bytes_held += slot.weight
            for name in call.scopes:
                self._by_scope.setdefault(name, set()).add(call.key)

    def _forget(self, key: str) -> None:
        slot = self._slots.remove(key)
        if slot is not None:
            self._unindex(key, slot)

    def _evicted(self, key: str, slot: _Slot) -> None:
        slot.stats.evictions += 1
        self._unindex(key, slot)

    def _unindex(self, key: str, slot: _Slot) -> None:
        slot.stats.entries -= 1
        slot.stats.bytes_held -= slot.weight
        for name in slot.scopes:
            keys = self._by_scope.get(name)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._by_scope[name]

    async def _read_shared(self, call: _Call) -> tuple[GuardedLevel, Record] | None:
        """The first valid record of the shared levels, a fresh one if any has that; the levels above it get it too."""
        if not call.policy.shared:
            return None
        expired: tuple[GuardedLevel, Record] | None = None
        for index, guarded in enumerate(self._levels):
            if not guarded.usable:
                continue
            positions = [upper.level.position for upper in self._levels[:index]]
            began = self._clock.monotonic()
            record = await guarded.read(call.key, call.scopes)
            spent = call.stats.level_seconds
            spent[guarded.level.name] = spent.get(guarded.level.name, 0.0) + self._clock.monotonic() - began
            if record is None:
                continue
            if record.expires <= self._clock.now().timestamp():
                expired = expired or (guarded, record)
                continue
            for upper, position in zip(self._levels, positions, strict=False):
                # Positions of different levels do not compare, so the record takes the one from before it was read.
                await self._write_level(upper, call, replace(record, position=position, fence=0))
            return guarded, record
        return expired

    async def _write_shared(
        self,
        call: _Call,
        record: Record,
        positions: Sequence[int],
        claim: tuple[GuardedLevel, int] | None = None,
    ) -> None:
        if not call.policy.shared:
            return
        for guarded, position in zip(self._levels, positions, strict=True):
            fence = claim[1] if claim is not None and claim[0] is guarded else 0
            await self._write_level(guarded, call, replace(record, position=position, fence=fence))

    async def _write_level(self, guarded: GuardedLevel, call: _Call, record: Record) -> None:
        written, name = call.stats.written_bytes, guarded.level.name
        if guarded.usable:
            written[name] = written.get(name, 0) + len(record.payload)
        await guarded.write(call.key, record)

    def _count_hit(self, call: _Call, level: str, record: Record) -> None:
        _count_hit(call.stats, level, max(0.0, self._clock.now().timestamp() - record.created))

    # -- invalidation --

    async def _invalidate(self, scopes: Sequence[str]) -> None:
        self._apply(scopes)
        # The lowest level first: who has heard of it from an upper level finds the lower ones clean, and can carry nothing
        # outdated upwards.
        for guarded in reversed(self._levels):
            await guarded.invalidate(scopes)
        # Once more: between the two, somebody here may have read the old value from a shared level.
        if self._levels:
            self._apply(scopes)

    def _heard(self, index: int, name: str) -> None:
        """A shared level has announced an invalidation by another process."""
        self._apply([name])
        now = self._clock.monotonic()
        heard = self._announced[index]
        heard[name] = now
        if len(heard) > _ANNOUNCEMENTS:
            del heard[next(iter(heard))]
        for upper in range(index):
            task = asyncio.get_running_loop().create_task(self._relay(upper, name, now), name="cache-relay")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _relay(self, upper: int, name: str, since: float) -> None:
        """Tell an upper level of what a lower one has announced, unless it knows: the process that invalidates may not reach it,
        or may have died in between, and its old records would be read again and carried on."""
        await asyncio.sleep(_RELAY_SECONDS)
        if self._closed or self._announced[upper].get(name, float("-inf")) >= since - _SAME_SECONDS:
            return
        await self._levels[upper].invalidate([name])
        self._apply([name])

    def _apply(self, scopes: Sequence[str]) -> None:
        self._epoch += 1
        for name in scopes:
            for key in list(self._by_scope.get(name, ())):
                self._forget(key)
            for flight in [flight for flight in self._flights.values() if name in flight.call.scopes]:
                flight.overtaken = True
                self._withdraw(flight)


def _count_hit(stats: OperationStats, level: str, age: float) -> None:
    stats.hits[level] = stats.hits.get(level, 0) + 1
    stats.ages[level] = stats.ages.get(level, 0.0) + age


def _pack(call: _Call, value: Any) -> tuple[Any, bytes] | None:
    """What process memory keeps of `value`, and its bytes for shared levels; None when it is not to be kept."""
    policy = call.policy
    if value is None or (policy.cacheable is not None and not policy.cacheable(value)):
        return None
    if policy.codec is None:
        return value, b""
    try:
        body = policy.codec.encode(value)
        if policy.hand_out_same and policy.shared:
            # As it comes back from a shared level (the order of names is the canonical one), so that all callers see the same.
            value = policy.codec.decode(body)
    except (TypeError, ValueError) as error:
        _log.error("%s.%s is not cached: its codec refuses it: %s", call.service, call.operation, error)
        return None
    return (value if policy.hand_out_same else body), seal(policy.codec, body)


def _decode_to_keep(call: _Call, record: Record) -> Any | None:
    """What process memory keeps of a shared record; None when it cannot be read (any more)."""
    codec = call.policy.codec
    if codec is None:  # INVARIANT: what is shared has a codec (CachePolicy refuses anything else)
        return None
    body = unseal(codec, record.payload)
    if body is None:
        return None  # of another release of the code
    try:
        value = codec.decode(body)
    except (TypeError, ValueError) as error:
        _log.warning("%s.%s: unreadable shared value ignored: %s", call.service, call.operation, type(error).__name__)
        return None
    return value if call.policy.hand_out_same else body

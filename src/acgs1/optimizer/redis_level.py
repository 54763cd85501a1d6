"""Redis (6.2 or newer, one server, not a cluster) as a shared cache level.

Kept there, all under `acgs1:cache:`:

- `record:<service>:<operation>:<hash>`: a hash with the record's payload, header, position and fence; it ends with the record's
  `stale_until`.
- `scopes`: a sorted set of every invalidated scope by its position, and of the *epoch*: the position at which the set was
  made. A record must not be older than the epoch, so what outlived a loss of the set (an eviction, a flush) is not served.
- `claim:<key>`: the fence of the process that computes the value now.
- a channel on which every invalidation is announced.

A process uses this level only while it follows the channel: a value that it reads could otherwise be kept in process memory
past an invalidation. When it has lost the channel it forgets what it has in memory, and when it is back it reads from `scopes`
what it has missed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import uuid4

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from acgs1.core.canonical import canonical_json
from acgs1.kit.pools import PoolMeter
from acgs1.optimizer.levels import LONGEST_SECONDS, Held, Record, Sample, name_of

_log = logging.getLogger(__name__)

_PREFIX: Final = "acgs1:cache:"
_SCOPES: Final = _PREFIX + "scopes"
_TICKS: Final = _PREFIX + "ticks"
# No scope is named like this: scopes are `*` or have two tabs.
_EPOCH: Final = "epoch"
_SAMPLE_KEYS: Final = 1000
_SAMPLE_STEPS: Final = 5

# Instants are microseconds of the server's clock, made to rise strictly: they order events over restarts of the server, too.
# `%.0f`, because Lua's own form of a number keeps 14 digits.
_TICK: Final = """
local function tick(least)
  local now = redis.call('TIME')
  return math.max(now[1] * 1000000 + now[2], least + 1)
end
"""

_OPEN: Final = f"""{_TICK}
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
local epoch = redis.call('ZSCORE', KEYS[1], '{_EPOCH}')
if not epoch then
  epoch = string.format('%.0f', tick(math.max(tonumber(newest[2] or 0), tonumber(ARGV[1]))))
  redis.call('ZADD', KEYS[1], epoch, '{_EPOCH}')
  newest = {{'{_EPOCH}', epoch}}
end
return {{string.format('%.0f', tonumber(epoch)), string.format('%.0f', tonumber(newest[2]))}}
"""

_INVALIDATE: Final = f"""{_TICK}
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
local position = tick(math.max(tonumber(newest[2] or 0), tonumber(ARGV[1])))
local epoch = redis.call('ZSCORE', KEYS[1], '{_EPOCH}')
if not epoch then
  epoch = position
  position = position + 1
  redis.call('ZADD', KEYS[1], string.format('%.0f', epoch), '{_EPOCH}')
end
epoch = tonumber(epoch)
local text = string.format('%.0f', position)
for i = 5, #ARGV do redis.call('ZADD', KEYS[1], text, ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', epoch), string.format('%.0f', position - ARGV[2]))
redis.call('PUBLISH', ARGV[3], string.format('%.0f', epoch) .. '\\n' .. text .. '\\n' .. table.concat(ARGV, '\\n', 4))
return text
"""

# A record computed before an invalidation never replaces one computed after it; and of two computed by holders of the claim,
# that of the later holder stays.
_WRITE: Final = """
local held = redis.call('HMGET', KEYS[1], 'position', 'fence')
if held[1] then
  local ours, theirs = tonumber(ARGV[1]), tonumber(held[1])
  if theirs > ours then return 0 end
  if theirs == ours and tonumber(ARGV[2]) > 0 and tonumber(held[2]) > tonumber(ARGV[2]) then return 0 end
end
redis.call('HSET', KEYS[1], 'position', ARGV[1], 'fence', ARGV[2], 'header', ARGV[3], 'payload', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
"""

_CLAIM: Final = f"""{_TICK}
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
local fence = string.format('%.0f', tick(tonumber(redis.call('GET', KEYS[2]) or 0)))
redis.call('SET', KEYS[2], fence)
redis.call('SET', KEYS[1], fence, 'PX', ARGV[1])
return fence
"""

_RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class NotFollowing(ConnectionError):
    """The channel of invalidations is lost, so that nothing of this level may be used."""


class RedisLevel:
    """A SharedLevel in Redis.

    `timeout`: seconds that a call may take. `size`: connections for calls; one more follows the channel, on which the server
    must be heard from at least every `silence` seconds, or the channel counts as lost.
    """

    name = "redis"

    def __init__(
        self, url: str, *, size: int = 8, timeout: float = 0.1, silence: float = 1.0, meter: PoolMeter | None = None
    ) -> None:
        self.timeout = timeout
        self.position = 0
        self._silence = silence
        self._meter = meter or PoolMeter("cache", "redis", size)
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=size,
            timeout=timeout,
            protocol=2,
            socket_connect_timeout=timeout,
            # A call that failed is not repeated here: the breaker decides what comes next.
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,
        )
        self._pool: Any = pool
        self._redis: Any = Redis.from_pool(pool)
        self._slots = asyncio.Semaphore(size)
        self._size = size
        database: object = pool.connection_kwargs.get("db") or 0
        # A channel is of the server and not of one of its databases.
        self._channel = f"{_PREFIX}invalidations:{database}"
        self._me = uuid4().hex
        self._epoch = 0
        # The newest announcement heard; `position` may be ahead of it by an invalidation of our own.
        self._seen = 0
        self._following = False
        self._sampling: dict[str, _Sampling] = {}
        self._task: asyncio.Task[None] | None = None
        self._heard: Callable[[str], None] = _ignore
        self._lost_track: Callable[[], None] = _ignore_all

    async def start(self, heard: Callable[[str], None], lost_track: Callable[[], None]) -> None:
        self._heard, self._lost_track = heard, lost_track
        # Connections are made now, so that the first calls need not wait for them.
        await asyncio.gather(*(self._call(lambda redis: redis.ping()) for _ in range(self._size)))
        connection = await self._subscribe()
        self._task = asyncio.create_task(self._follow(connection), name="cache-redis-feed")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._redis.aclose()
        await self._pool.aclose()
        self._meter.close()

    async def ping(self) -> None:
        self._check()
        await self._call(lambda redis: redis.ping())

    async def read(self, key: str, scopes: Sequence[str]) -> Record | None:
        self._check()

        def ask(redis: Any) -> Awaitable[Any]:
            # The record first: what invalidates it in between shows in the scopes.
            pipe = redis.pipeline(transaction=False)
            pipe.hmget(_PREFIX + "record:" + key, "position", "header", "payload", "fence")
            pipe.zmscore(_SCOPES, [_EPOCH, *scopes])
            return pipe.execute()

        found, scores = await self._call(ask)
        epoch = int(scores[0] or 0)
        if epoch != self._epoch:
            await self._catch_up()
            return None
        if found[0] is None:
            return None
        position = int(found[0])
        if position < max(int(score or 0) for score in scores):
            return None
        created, expires, stale_until, load_seconds = (float(number) for number in found[1].split())
        return Record(found[2], created, expires, stale_until, load_seconds, position, int(found[3]))

    async def write(self, records: Sequence[tuple[str, Record]]) -> None:
        self._check()

        def send(redis: Any) -> Awaitable[Any]:
            pipe = redis.pipeline(transaction=False)
            for key, record in records:
                header = b" ".join(
                    canonical_json(number)
                    for number in (record.created, record.expires, record.stale_until, record.load_seconds)
                )
                left = max(1, int((record.stale_until - record.created) * 1000))
                pipe.eval(
                    _WRITE,
                    1,
                    _PREFIX + "record:" + key,
                    record.position,
                    record.fence,
                    header,
                    record.payload,
                    left,
                )
            return pipe.execute()

        await self._call(send)

    async def invalidate(self, scopes: Sequence[str]) -> None:
        horizon = int(LONGEST_SECONDS * 1_000_000)
        position = await self._call(
            lambda redis: redis.eval(
                _INVALIDATE, 1, _SCOPES, self.position, horizon, self._channel, self._me, *dict.fromkeys(scopes)
            )
        )
        self.position = max(self.position, int(position))

    async def sample(self, service: str) -> Sample | None:
        """By walks through the keys (SCAN), a few thousand of them at a time: None until the first walk is over. `evictions`: of the
        whole server, whoever's values they were."""
        walk = self._sampling.setdefault(service, _Sampling())
        for _ in range(_SAMPLE_STEPS):
            cursor, keys = await self._call(
                lambda redis: redis.scan(walk.cursor, match=f"{_PREFIX}record:{service}:*", count=_SAMPLE_KEYS)
            )
            if keys:
                sizes = await self._call(lambda redis, keys=keys: _sizes(redis, keys))
                for key, size in zip(keys, sizes, strict=True):
                    walk.seen[key.decode().removeprefix(_PREFIX + "record:")] = int(size)
            walk.cursor = int(cursor)
            if walk.cursor == 0:
                walk.held, walk.seen = _by_operation(walk.seen), {}
                break
        if walk.held is None:
            return None
        stats = await self._call(lambda redis: redis.info("stats"))
        return Sample(walk.held, int(stats["evicted_keys"]))

    async def claim(self, key: str, seconds: float) -> int | None:
        self._check()
        fence = await self._call(
            lambda redis: redis.eval(_CLAIM, 2, _PREFIX + "claim:" + key, _TICKS, max(1, int(seconds * 1000)))
        )
        return None if fence is None else int(fence)

    async def release(self, key: str, fence: int) -> None:
        await self._call(lambda redis: redis.eval(_RELEASE, 1, _PREFIX + "claim:" + key, fence))

    # -- calls --

    async def _call(self, send: Callable[[Any], Awaitable[Any]]) -> Any:
        """One exchange over a connection of the pool; the wait for it is measured."""
        async with self._meter.slot(self._slots):
            return await send(self._redis)

    def _check(self) -> None:
        if not self._following:
            raise NotFollowing("the channel of invalidations is lost")

    # -- the feed --

    async def _subscribe(self) -> AbstractConnection:
        """A connection that hears every invalidation from now on, with those before it caught up on."""
        connection: AbstractConnection = self._pool.make_connection()
        try:
            await connection.connect()
            await connection.send_command("SUBSCRIBE", self._channel)
            await connection.read_response(timeout=self._silence)
            await self._catch_up()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._following = True
        return connection

    async def _catch_up(self) -> None:
        """Hear what was announced while nobody listened; when that cannot be told, everything counts as invalidated."""
        epoch, newest = (
            int(number) for number in await self._call(lambda redis: redis.eval(_OPEN, 1, _SCOPES, self.position))
        )
        if epoch != self._epoch:
            self._epoch = epoch
            self._lost_track()
        elif newest > self._seen:
            since = self._seen
            missed = await self._call(lambda redis: redis.zrange(_SCOPES, f"({since}", "+inf", byscore=True))
            for scope in missed:
                self._heard(scope.decode())
        self._saw(newest)

    async def _follow(self, connection: AbstractConnection) -> None:
        while True:
            try:
                await self._listen(connection)
            except (RedisError, OSError, TimeoutError, ValueError) as error:
                _log.warning("cache invalidations over Redis are lost: %s", type(error).__name__)
            self._following = False
            self._lost_track()
            with contextlib.suppress(Exception):
                await connection.disconnect(nowait=True)
            connection = await self._resubscribe()

    async def _resubscribe(self) -> AbstractConnection:
        while True:
            try:
                async with asyncio.timeout(self._silence + 2 * self.timeout):
                    return await self._subscribe()
            except (RedisError, OSError, TimeoutError) as error:
                _log.info("Redis does not answer: %s", type(error).__name__)
            await asyncio.sleep(self._silence / 4)

    async def _listen(self, connection: AbstractConnection) -> None:
        """Returns or raises when the channel is lost: closed, or silent although it was asked for an answer."""
        silent_for = 0
        while True:
            answer = cast("list[bytes] | None", await connection.read_response(timeout=self._silence / 2))
            if answer is None:
                silent_for += 1
                if silent_for > 2:
                    raise TimeoutError
                await connection.send_command("PING")
                continue
            silent_for = 0
            if answer[0] == b"message":
                await self._announced(answer[2].decode())

    async def _announced(self, message: str) -> None:
        epoch, position, sender, *scopes = message.split("\n")
        if int(epoch) != self._epoch:
            await self._catch_up()
        if sender != self._me:
            for scope in scopes:
                self._heard(scope)
        self._saw(int(position))

    def _saw(self, position: int) -> None:
        self._seen = max(self._seen, position)
        self.position = max(self.position, position)


@dataclass(slots=True)
class _Sampling:
    """A walk through the keys of one service: where it is, what it has met (a key may be met twice), what the last one found."""

    cursor: int = 0
    seen: dict[str, int] = field(default_factory=dict[str, int])
    held: dict[str, Held] | None = None


def _sizes(redis: Any, keys: list[bytes]) -> Awaitable[Any]:
    pipe = redis.pipeline(transaction=False)
    for key in keys:
        pipe.hstrlen(key, "payload")
    return pipe.execute()


def _by_operation(sizes: dict[str, int]) -> dict[str, Held]:
    held: dict[str, Held] = {}
    for key, size in sizes.items():
        _, operation = name_of(key)
        before = held.get(operation, Held(0, 0))
        held[operation] = Held(before.entries + 1, before.bytes + size)
    return held


def _ignore(_: str) -> None: ...


def _ignore_all() -> None: ...

"""Connection pools, measured: how long callers wait for a connection, how many are in use, how often none came free in time."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Literal, cast
from weakref import WeakSet

import httpx
from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy.exc import TimeoutError as NoConnectionInTime
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool
from sqlalchemy.pool.base import PoolProxiedConnection

Kind = Literal["database", "cache_database", "workflows", "redis", "http", "probes", "ledger"]

POOL_WAIT = Histogram(
    "acgs_pool_wait_seconds",
    "Time until a caller had a connection, the making of a new one included",
    ["service", "pool"],
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 10),
)
POOL_IN_USE = Gauge("acgs_pool_in_use", "Connections in use", ["service", "pool"], multiprocess_mode="livesum")
POOL_SIZE = Gauge(
    "acgs_pool_size", "Connections that the pool may have", ["service", "pool"], multiprocess_mode="livesum"
)
POOL_TIMEOUTS = Counter("acgs_pool_timeouts", "Callers for whom no connection came free in time", ["service", "pool"])


class PoolMeter:
    """The measurements of one pool. Labels are bounded: a part of the system and one of the kinds."""

    def __init__(self, service: str, pool: Kind, size: int) -> None:
        self.wait = POOL_WAIT.labels(service, pool)
        self.timeouts = POOL_TIMEOUTS.labels(service, pool)
        self._in_use = POOL_IN_USE.labels(service, pool)
        self._size = POOL_SIZE.labels(service, pool)
        self._size.set(size)
        self._held = 0
        self._read: Callable[[], int] = lambda: self._held
        self.reads(self._read)
        _meters.add(self)

    def reads(self, in_use: Callable[[], int]) -> None:
        """Ask `in_use` when the metrics are scraped."""
        self._read = in_use
        self._in_use.set_function(in_use)

    def publish(self) -> None:
        """Write down what is in use now: for several workers behind one `/metrics`, where nothing is asked when it is scraped."""
        self._in_use.set(self._read())

    def close(self) -> None:
        """The pool is gone."""
        _meters.discard(self)
        self._in_use.set_function(int)
        self._in_use.set(0)
        self._size.set(0)

    @asynccontextmanager
    async def slot(self, slots: asyncio.Semaphore, timeout: float | None = None) -> AsyncGenerator[None]:
        """One of as many slots as there are connections, for the length of the block; raises TimeoutError like `acquire`."""
        await self.acquire(slots, timeout)
        try:
            yield
        finally:
            self.release(slots)

    async def acquire(self, slots: asyncio.Semaphore, timeout: float | None = None) -> None:
        """Take a slot; raises TimeoutError when none came free within `timeout` seconds."""
        started = time.perf_counter()
        if slots.locked():
            try:
                async with asyncio.timeout(timeout):
                    await slots.acquire()
            except TimeoutError:
                self.timeouts.inc()
                raise
        else:
            await slots.acquire()
        self._held += 1
        self.wait.observe(time.perf_counter() - started)

    def release(self, slots: asyncio.Semaphore) -> None:
        self._held -= 1
        slots.release()


_meters: WeakSet[PoolMeter] = WeakSet()


def publish_pools() -> None:
    """`PoolMeter.publish` for every pool of this process."""
    for meter in list(_meters):
        meter.publish()


class _Measured(QueuePool):
    meter: ClassVar[PoolMeter]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.meter.reads(self.checkedout)

    def connect(self) -> PoolProxiedConnection:
        started = time.perf_counter()
        try:
            return super().connect()
        except NoConnectionInTime:
            self.meter.timeouts.inc()
            raise
        finally:
            self.meter.wait.observe(time.perf_counter() - started)


def measured_queue(meter: PoolMeter) -> type[QueuePool]:
    """SQLAlchemy's queue of connections, timed; for `create_async_engine(poolclass=...)`."""
    return type("MeasuredQueue", (_Measured, AsyncAdaptedQueuePool), {"meter": meter})


def measured_threaded_queue(meter: PoolMeter) -> type[QueuePool]:
    """The same for `create_engine(poolclass=...)`, whose callers are threads."""
    return type("MeasuredThreadedQueue", (_Measured,), {"meter": meter})


class MeasuredTransport(httpx.AsyncBaseTransport):
    """httpx over at most `size` connections per process. A caller waits for one until its own `pool` timeout.

    An idle connection is kept for `keep_seconds`: the other side must keep it longer, or a request may meet a closed one.
    """

    def __init__(self, meter: PoolMeter, size: int, keep_seconds: float = 4.0) -> None:
        self._meter = meter
        self._slots = asyncio.Semaphore(size)
        limits = httpx.Limits(max_connections=size, max_keepalive_connections=size, keepalive_expiry=keep_seconds)
        self._inner = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            await self._meter.acquire(self._slots, request.extensions.get("timeout", {}).get("pool"))
        except TimeoutError:
            raise httpx.PoolTimeout("no connection came free in time", request=request) from None
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException:
            self._meter.release(self._slots)
            raise
        body = cast("httpx.AsyncByteStream", response.stream)  # AsyncHTTPTransport makes no other
        response.stream = _Held(body, lambda: self._meter.release(self._slots))
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()
        self._meter.close()


def measured_client(service: str, pool: Kind, size: int) -> httpx.AsyncClient:
    """An httpx client over a `MeasuredTransport`: no redirects, nothing taken from the environment."""
    transport = MeasuredTransport(PoolMeter(service, pool, size), size)
    return httpx.AsyncClient(transport=transport, follow_redirects=False, trust_env=False)


class _Held(httpx.AsyncByteStream):
    """A body that gives its connection back when it is closed."""

    def __init__(self, inner: httpx.AsyncByteStream, release: Callable[[], None]) -> None:
        self._inner = inner
        self._release: Callable[[], None] | None = release

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            yield part

    async def aclose(self) -> None:
        release, self._release = self._release, None
        try:
            await self._inner.aclose()
        finally:
            if release is not None:
                release()

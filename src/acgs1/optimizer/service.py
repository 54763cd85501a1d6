"""The performance optimizer of one process: its cache and its batch processor, made once and closed once."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from acgs1.core.errors import DomainError
from acgs1.kit.home import Home
from acgs1.kit.settings import PlatformSettings
from acgs1.optimizer.batching import AsyncBatchProcessor
from acgs1.optimizer.cache import IntelligentCache
from acgs1.optimizer.levels import SharedLevel

# As many as a service has connections to its database: more would only wait for one, and keep callers from having one.
_AT_ONCE: Final = 8


class NotInitialized(DomainError):
    """`await optimizer.initialize()` comes before anything else."""

    code = "optimizer_not_initialized"
    title = "The performance optimizer has not been initialized"


class PerformanceOptimizer:
    """`initialize` connects the shared levels that the settings name (the database always), `close` lets go of them."""

    def __init__(self, settings: PlatformSettings | None = None, *, owner: str = "cache") -> None:
        self._settings = settings
        self._owner = owner
        self._cache: IntelligentCache | None = None
        self._batches: AsyncBatchProcessor | None = None
        self._collector: Any = None
        self._publisher: Any = None

    @property
    def cache(self) -> IntelligentCache:
        """Raises NotInitialized before `initialize` and after `close`."""
        if self._cache is None:
            raise NotInitialized("call `await get_performance_optimizer().initialize()` first")
        return self._cache

    @property
    def batches(self) -> AsyncBatchProcessor:
        """For work that nobody waits for at the moment, at most eight operations at once: the cache refreshes its values by it.

        Raises NotInitialized before `initialize` and after `close`.
        """
        if self._batches is None:
            raise NotInitialized("call `await get_performance_optimizer().initialize()` first")
        return self._batches

    @property
    def initialized(self) -> bool:
        return self._cache is not None

    async def initialize(self) -> None:
        """Make the cache and the batch processor. A shared level that does not answer joins later. Idempotent."""
        if self._cache is not None:
            return
        # Imported here: a process that only batches need not load the database and the metrics.
        from prometheus_client import REGISTRY

        from acgs1.optimizer.metrics import CacheCollector, CachePublisher, several_workers

        levels = _levels(self._settings or PlatformSettings(), self._owner)
        self._batches = AsyncBatchProcessor(batch_size=_AT_ONCE // 2, max_pending=1024, concurrency=2)
        self._cache = IntelligentCache(levels=levels, owner=self._owner, refreshes=self._batches)
        await self._cache.start()
        if several_workers():
            self._publisher = CachePublisher(self._cache)
        else:
            self._collector = CacheCollector(self._cache)
            REGISTRY.register(self._collector)

    async def close(self) -> None:
        """Finish what was taken on and let go. Idempotent; `initialize` may follow."""
        if self._cache is None or self._batches is None:
            return
        from prometheus_client import REGISTRY

        if self._publisher is not None:
            await self._publisher.close()
            self._publisher = None
        else:
            REGISTRY.unregister(self._collector)
        cache, batches = self._cache, self._batches
        self._cache = self._batches = None
        cache.stop_refreshing()
        await batches.close()
        await cache.close()


def _levels(settings: PlatformSettings, owner: str) -> list[SharedLevel]:
    """Redis if it has a URL, then the database."""
    from acgs1.kit.db import Database
    from acgs1.kit.pools import PoolMeter
    from acgs1.optimizer.database_level import DatabaseLevel

    levels: list[SharedLevel] = []
    if settings.redis_url is not None:
        # Imported here: 15 MB and half a second that nobody without Redis should pay.
        from acgs1.optimizer.redis_level import RedisLevel

        size = settings.redis_pool_size
        levels.append(
            RedisLevel(settings.redis_url.get_secret_value(), size=size, meter=PoolMeter(owner, "redis", size))
        )
    if settings.database_url is not None:
        url, schema = settings.database_url.get_secret_value(), "acgs_cache"
    else:
        url, schema = f"sqlite+aiosqlite:///{Home(settings.home).cache / 'shared.sqlite3'}", None
    database = Database(
        url,
        schema=schema,
        pool_size=settings.cache_database_pool_size,
        owner=owner,
        pool="cache_database",
        slow_query_seconds=settings.slow_query_ms / 1000,
    )
    levels.append(DatabaseLevel(database))
    return levels


_process: PerformanceOptimizer | None = None


def get_performance_optimizer(settings: PlatformSettings | None = None) -> PerformanceOptimizer:
    """The optimizer of this process: in a service the one that the service uses. `settings` counts while it is not initialized; the
    default is the environment's."""
    global _process  # noqa: PLW0603 - one per process is what it is for
    if _process is None or (settings is not None and not _process.initialized):
        _process = PerformanceOptimizer(settings)
    return _process


@contextmanager
def installed(optimizer: PerformanceOptimizer) -> Generator[None]:
    """Make `optimizer` the one of this process for the length of the block. Where one is in use already, it comes back afterwards."""
    global _process  # noqa: PLW0603 - as above
    before, _process = _process, optimizer
    try:
        yield
    finally:
        if _process is optimizer:
            _process = before if before is not None and before.initialized else None

"""The optimizer inside a service: there for as long as the app lives, handed to routes as a dependency."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, FastAPI, Request

from acgs1.kit.settings import PlatformSettings
from acgs1.optimizer.adaptive import AdaptiveTtl
from acgs1.optimizer.policy import CachePolicy, ModelCodec
from acgs1.optimizer.service import PerformanceOptimizer, installed

T = TypeVar("T")

OUTAGE_SECONDS: Final = 60.0
"""How long what nobody can have changed, because its database is away, may stand in for itself."""


@asynccontextmanager
async def optimized(app: FastAPI, settings: PlatformSettings, service: str) -> AsyncGenerator[None]:
    """Run the optimizer of this process with the app's own settings and put `Reads` on `app.state.reads`."""
    optimizer = PerformanceOptimizer(settings, owner=service)
    await optimizer.initialize()
    app.state.reads = Reads(optimizer, service)
    try:
        with installed(optimizer):
            yield
    finally:
        await optimizer.close()


class Reads:
    """The hot reads of one service, through its cache."""

    def __init__(self, optimizer: PerformanceOptimizer, service: str) -> None:
        self._optimizer = optimizer
        self._service = service

    def declare(
        self,
        operation: str,
        answer: type[Any],
        *,
        ttl: float,
        at_least: float | None = None,
        stale_if_error: float = 0.0,
        shared: bool = True,
        cacheable: Callable[[Any], bool] | None = None,
    ) -> None:
        """Keep answers of `operation` (immutable models) for `ttl` seconds; `cacheable` says which of them.

        With `at_least` the TTL is learned from how often the answers change and are asked for, between `at_least` and `ttl`: the
        declared bound of staleness stays `ttl`.
        """
        policy = CachePolicy(
            ttl=ttl,
            codec=ModelCodec(answer),
            hand_out_same=True,
            stale_if_error=stale_if_error,
            shared=shared,
            cacheable=cacheable,
            adaptive=None if at_least is None else AdaptiveTtl(shortest=at_least, longest=ttl),
        )
        self._optimizer.cache.declare(self._service, operation, policy)

    async def get(
        self,
        operation: str,
        params: object,
        compute: Callable[[], Awaitable[T]],
        *,
        version: str | None = None,
        tags: Sequence[str] = (),
    ) -> T:
        """The cached answer, or what `compute` returns. An error is raised and never kept.

        `version`: the hash of the constitution or policy set that the answer depends on; another one never sees it.
        """
        return await self._optimizer.cache.get_or_compute(
            self._service, operation, params, compute, version=version, tags=tags
        )

    async def forget(self, *operations: str, tags: Sequence[str] = ()) -> None:
        """Forget every answer of `operations` (of all of them, if none is named), or those of them with one of `tags`: here and in
        the shared levels on return, in the other processes of this service within 100 ms."""
        await self._optimizer.cache.invalidate(service=self._service, operation=operations, tags=tags)


async def _reads(request: Request) -> Reads:
    return request.app.state.reads


HotReads = Annotated[Reads, Depends(_reads)]

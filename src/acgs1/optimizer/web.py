"""The optimizer inside a service: there for as long as the app lives, handed to routes as a dependency."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Request

from acgs1.kit.settings import PlatformSettings
from acgs1.optimizer.policy import CachePolicy, ModelCodec
from acgs1.optimizer.service import PerformanceOptimizer

T = TypeVar("T")


@asynccontextmanager
async def optimized(app: FastAPI, settings: PlatformSettings, service: str) -> AsyncGenerator[None]:
    """Run an optimizer with the app's own settings and put `Reads` on `app.state.reads`."""
    optimizer = PerformanceOptimizer(settings)
    await optimizer.initialize()
    app.state.reads = Reads(optimizer, service)
    try:
        yield
    finally:
        await optimizer.close()


class Reads:
    """The hot reads of one service, through its cache."""

    def __init__(self, optimizer: PerformanceOptimizer, service: str) -> None:
        self._optimizer = optimizer
        self._service = service

    def declare(
        self, operation: str, answer: type[Any], *, ttl: float, cacheable: Callable[[Any], bool] | None = None
    ) -> None:
        """Keep answers of `operation` (immutable models) for `ttl` seconds; `cacheable` says which of them."""
        policy = CachePolicy(ttl=ttl, codec=ModelCodec(answer), hand_out_same=True, cacheable=cacheable)
        self._optimizer.cache.declare(self._service, operation, policy)

    async def get(self, operation: str, params: object, compute: Callable[[], Awaitable[T]]) -> T:
        """The cached answer, or what `compute` returns. An error is raised and never kept."""
        return await self._optimizer.cache.get_or_compute(self._service, operation, params, compute)

    async def forget(self, operation: str) -> None:
        """Forget every answer of `operation`, here and in the other processes of this service."""
        await self._optimizer.cache.invalidate(service=self._service, operation=operation)


async def _reads(request: Request) -> Reads:
    return request.app.state.reads


HotReads = Annotated[Reads, Depends(_reads)]

"""How the console is put together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from acgs1.kit.platform import Platform
from acgs1.monitoring.api import monitoring


@asynccontextmanager
async def wire(app: FastAPI, platform: Platform) -> AsyncGenerator[None]:
    """The monitor watches for as long as the console runs."""
    async with monitoring(app, platform):
        yield

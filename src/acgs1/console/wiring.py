"""How the console is put together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from acgs1.kit.platform import Platform


@asynccontextmanager
async def wire(app: FastAPI, platform: Platform) -> AsyncGenerator[None]:
    """Nothing yet beside the platform."""
    del app, platform
    yield

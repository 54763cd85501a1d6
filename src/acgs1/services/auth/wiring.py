"""How auth is put together."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from acgs1.kit.db import Store
from acgs1.kit.home import write_private
from acgs1.kit.platform import Platform
from acgs1.optimizer.web import optimized
from acgs1.services.auth.adapters.passwords import Argon2Passwords
from acgs1.services.auth.adapters.reads import AuthReads
from acgs1.services.auth.adapters.tokens import JwtSigner
from acgs1.services.auth.repository import AuthRepository
from acgs1.services.auth.service import AuthService


@asynccontextmanager
async def wire(app: FastAPI, platform: Platform) -> AsyncGenerator[None]:
    """Builds the service, makes the first administrator on the first start, delivers events."""
    service = AuthService(
        Store(platform.database, AuthRepository),
        Argon2Passwords(),
        JwtSigner(platform.home.keys("auth")),
        platform.clock,
        platform.home.service_secret_hashes(),
    )
    await service.bootstrap(partial(_first_password, platform.home.admin_password))
    platform.trust(service)
    platform.deliver_to_log()
    app.state.service = service
    async with optimized(app, platform.settings, "auth"):
        app.state.auth_reads = AuthReads(service, app.state.reads, platform.clock)
        yield


def _first_password(file: Path) -> str:
    """What is in `file`. It is on disk before the account exists: a crash between the two leaves a file that the next start uses."""
    if not file.exists():
        write_private(file, secrets.token_urlsafe(24).encode() + b"\n")
    return file.read_text().strip()

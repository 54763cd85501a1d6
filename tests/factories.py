"""Things that tests are made of: settings, a running service, tokens for any role."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from fastapi import FastAPI

from acgs1.contracts.auth import Identity, Role
from acgs1.core.ids import new_id
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.signing import SigningKey, VerifyingKey
from acgs1.services.auth.adapters.tokens import JwtSigner


class TestKeys:
    """A key source and signer of tokens that the running service is told to trust."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self._signer = JwtSigner(folder)
        self._kid = self._signer.create()

    async def key(self, kid: str) -> VerifyingKey | None:
        return self._signer.public(kid) if kid == self._kid else None

    def token(self, *roles: Role, subject: str | None = None, lifetime: timedelta = timedelta(minutes=5)) -> str:
        now = datetime.now(UTC)
        identity = Identity(id=subject or new_id("usr"), name="tester", roles=roles)
        return self._signer.sign(self._kid, identity, now, now + lifetime)

    def headers(self, *roles: Role, subject: str | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(*roles, subject=subject)}"}


class Running:
    """A service in this process: its app, an HTTP client to it, and keys that it trusts."""

    def __init__(self, app: FastAPI, client: httpx.AsyncClient, keys: TestKeys) -> None:
        self.app = app
        self.client = client
        self.keys = keys

    def headers(self, *roles: Role, subject: str | None = None) -> dict[str, str]:
        return self.keys.headers(*roles, subject=subject)


def settings(home: Path, **overrides: object) -> PlatformSettings:
    """Settings for a system of its own under `home`; other parts are looked for on ports where nothing listens."""
    return PlatformSettings.model_validate({"home": home, "port_offset": 40_000, **overrides})


@asynccontextmanager
async def running(create_app: Callable[..., FastAPI], config: PlatformSettings) -> AsyncGenerator[Running]:
    """Run a service's app in this process, lifespan included."""
    app = create_app(config)
    async with app.router.lifespan_context(app):
        folder = config.home / "keys" / "test"
        folder.mkdir(exist_ok=True)
        keys = TestKeys(folder)
        app.state.platform.trust(keys)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            yield Running(app, client, keys)


def signing_key() -> SigningKey:
    """A key that lives only in this test."""
    return SigningKey.generate()

"""The ASGI application of auth: `uvicorn acgs1.services.auth.app:app --port 8000`."""

from pathlib import Path

from fastapi import FastAPI

from acgs1.kit.platform import Platform
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.web import create_service
from acgs1.services.auth.api import PUBLIC, STATUSES, router, secret, standard
from acgs1.services.auth.wiring import wire


def create_app(settings: PlatformSettings | None = None) -> FastAPI:
    """Auth, with settings from the environment unless given."""
    settings = settings or PlatformSettings()
    return create_service(
        "auth",
        settings,
        description="People, agents and service accounts; access tokens and the keys that verify them.",
        routers=[router, secret, standard],
        statuses=STATUSES,
        public=PUBLIC,
        wire=wire,
        platform=lambda: Platform("auth", settings, migrations=Path(__file__).parent / "migrations"),
    )


def __getattr__(name: str) -> FastAPI:
    # Built on first use, so that importing this module reads no environment.
    if name == "app":
        return create_app()
    raise AttributeError(name)

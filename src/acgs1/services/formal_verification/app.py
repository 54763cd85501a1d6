"""The ASGI application of formal_verification: `uvicorn acgs1.services.formal_verification.app:app --port 8003`."""

from pathlib import Path

from fastapi import FastAPI

from acgs1.kit.platform import Platform
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.web import create_service
from acgs1.services.formal_verification.api import PUBLIC, STATUSES, router
from acgs1.services.formal_verification.wiring import wire


def create_app(settings: PlatformSettings | None = None) -> FastAPI:
    """Formal verification, with settings from the environment unless given."""
    settings = settings or PlatformSettings()
    return create_service(
        "formal_verification",
        settings,
        description="Proofs: policies against the constitution, old policies against new ones; certificates.",
        routers=[router],
        statuses=STATUSES,
        public=PUBLIC,
        wire=wire,
        platform=lambda: Platform("formal_verification", settings, migrations=Path(__file__).parent / "migrations"),
    )


def __getattr__(name: str) -> FastAPI:
    # Built on first use, so that importing this module reads no environment.
    if name == "app":
        return create_app()
    raise AttributeError(name)

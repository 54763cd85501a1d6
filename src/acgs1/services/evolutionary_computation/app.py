"""The ASGI application of evolutionary_computation: `uvicorn acgs1.services.evolutionary_computation.app:app --port 8006`."""

from pathlib import Path

from fastapi import FastAPI

from acgs1.kit.platform import Platform
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.web import create_service
from acgs1.services.evolutionary_computation.api import STATUSES, router
from acgs1.services.evolutionary_computation.wiring import wire


def create_app(settings: PlatformSettings | None = None) -> FastAPI:
    """Evolutionary computation, with settings from the environment unless given."""
    settings = settings or PlatformSettings()
    return create_service(
        "evolutionary_computation",
        settings,
        description="Tunes thresholds of policies from labelled outcomes; shows only what is proved to comply.",
        routers=[router],
        statuses=STATUSES,
        wire=wire,
        platform=lambda: Platform(
            "evolutionary_computation", settings, migrations=Path(__file__).parent / "migrations"
        ),
    )


def __getattr__(name: str) -> FastAPI:
    # Built on first use, so that importing this module reads no environment.
    if name == "app":
        return create_app()
    raise AttributeError(name)

"""The ASGI application of constitutional_ai: `uvicorn acgs1.services.constitutional_ai.app:app --port 8001`."""

from pathlib import Path

from fastapi import FastAPI

from acgs1.kit.platform import Platform
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.web import create_service
from acgs1.services.constitutional_ai.api import STATUSES, router
from acgs1.services.constitutional_ai.wiring import wire


def create_app(settings: PlatformSettings | None = None) -> FastAPI:
    """Constitutional AI, with settings from the environment unless given."""
    settings = settings or PlatformSettings()
    return create_service(
        "constitutional_ai",
        settings,
        description="Principles and constitutions: written, checked, adopted, versioned.",
        routers=[router],
        statuses=STATUSES,
        wire=wire,
        platform=lambda: Platform("constitutional_ai", settings, migrations=Path(__file__).parent / "migrations"),
    )


def __getattr__(name: str) -> FastAPI:
    # Built on first use, so that importing this module reads no environment.
    if name == "app":
        return create_app()
    raise AttributeError(name)

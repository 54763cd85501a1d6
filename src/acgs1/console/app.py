"""The ASGI application of the console: `uvicorn acgs1.console.app:app --port 3000`."""

from fastapi import FastAPI

from acgs1.console.page import page_router
from acgs1.console.wiring import wire
from acgs1.kit.platform import Platform
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.web import create_service
from acgs1.monitoring.api import STATUSES, monitoring_router


def create_app(settings: PlatformSettings | None = None) -> FastAPI:
    """The console, with settings from the environment unless given."""
    settings = settings or PlatformSettings()
    return create_service(
        "console",
        settings,
        description="What runs where, and the monitoring behind it.",
        routers=[page_router(settings), monitoring_router()],
        statuses=STATUSES,
        public=frozenset({"/"}),
        wire=wire,
        platform=lambda: Platform("console", settings, migrations=None),
    )


def __getattr__(name: str) -> FastAPI:
    # Built on first use, so that importing this module reads no environment.
    if name == "app":
        return create_app()
    raise AttributeError(name)

"""The ASGI application of governance_synthesis: `uvicorn acgs1.services.governance_synthesis.app:app --port 8004`."""

from pathlib import Path

from fastapi import FastAPI

from acgs1.kit.platform import Platform
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.web import create_service
from acgs1.services.governance_synthesis.api import STATUSES, keyed, router
from acgs1.services.governance_synthesis.wiring import wire


def create_app(settings: PlatformSettings | None = None) -> FastAPI:
    """Governance synthesis, with settings from the environment unless given."""
    settings = settings or PlatformSettings()
    return create_service(
        "governance_synthesis",
        settings,
        description="Drafts Cedar policies from principles in controlled English, and repairs them from counterexamples.",
        routers=[router, keyed],
        statuses=STATUSES,
        wire=wire,
        platform=lambda: Platform("governance_synthesis", settings, migrations=Path(__file__).parent / "migrations"),
    )


def __getattr__(name: str) -> FastAPI:
    # Built on first use, so that importing this module reads no environment.
    if name == "app":
        return create_app()
    raise AttributeError(name)

"""The ASGI application of integrity: `uvicorn acgs1.services.integrity.app:app --port 8002`."""

from pathlib import Path

from fastapi import FastAPI

from acgs1.kit.platform import Platform
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.web import create_service
from acgs1.services.integrity.api import PUBLIC, STATUSES, log, router, standard
from acgs1.services.integrity.settings import IntegritySettings
from acgs1.services.integrity.wiring import wiring


def create_app(settings: PlatformSettings | None = None, own: IntegritySettings | None = None) -> FastAPI:
    """Integrity, with settings from the environment unless given."""
    settings = settings or PlatformSettings()
    return create_service(
        "integrity",
        settings,
        description="The transparency log: entries, signed checkpoints, proofs, anchors, evidence, appeals.",
        routers=[log, router, standard],
        statuses=STATUSES,
        public=PUBLIC,
        wire=wiring(own or IntegritySettings()),
        platform=lambda: Platform("integrity", settings, migrations=Path(__file__).parent / "migrations"),
    )


def __getattr__(name: str) -> FastAPI:
    # Built on first use, so that importing this module reads no environment.
    if name == "app":
        return create_app()
    raise AttributeError(name)

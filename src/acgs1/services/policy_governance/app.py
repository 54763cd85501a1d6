"""The ASGI application of policy_governance: `uvicorn acgs1.services.policy_governance.app:app --port 8005`."""

from pathlib import Path

from fastapi import FastAPI

from acgs1.kit.platform import Platform
from acgs1.kit.settings import PlatformSettings
from acgs1.kit.web import create_service
from acgs1.services.policy_governance.api import PUBLIC, STATUSES, router, standard
from acgs1.services.policy_governance.wiring import wire


def create_app(settings: PlatformSettings | None = None) -> FastAPI:
    """Policy governance, with settings from the environment unless given."""
    settings = settings or PlatformSettings()
    return create_service(
        "policy_governance",
        settings,
        description="Members and votes, bundles, decisions (AuthZEN), approvals.",
        routers=[router, standard],
        statuses=STATUSES,
        public=PUBLIC,
        wire=wire,
        platform=lambda: Platform("policy_governance", settings, migrations=Path(__file__).parent / "migrations"),
    )


def __getattr__(name: str) -> FastAPI:
    # Built on first use, so that importing this module reads no environment.
    if name == "app":
        return create_app()
    raise AttributeError(name)

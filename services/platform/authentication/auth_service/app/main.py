"""The plan's path to auth: `cd services/platform/authentication/auth_service; python -m uvicorn app.main:app --port 8000`."""

from acgs1.kit.web import SERVICE_VERSION
from acgs1.services.auth.app import create_app

app = create_app()

__all__ = ["SERVICE_VERSION", "app"]

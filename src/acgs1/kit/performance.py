"""`/api/v1/performance`: how fast the databases of this service answer."""

from fastapi import APIRouter, Request

from acgs1.contracts.auth import Role
from acgs1.contracts.performance import SlowQueries
from acgs1.kit.access import require


def performance_router() -> APIRouter:
    """The routes that every service has."""
    router = APIRouter(prefix="/api/v1/performance", tags=["operations"])

    @router.get(
        "/queries", summary="Slow statements with their plans", dependencies=[require(Role.OPERATOR, Role.ADMIN)]
    )
    async def _queries(request: Request) -> SlowQueries:
        return request.app.state.platform.database.slow_queries.report_all()

    return router

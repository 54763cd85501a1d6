"""Routes of evolutionary_computation."""

from typing import Annotated

from fastapi import Depends, Query, Request

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.common import Page
from acgs1.contracts.evolutionary_computation import NewRun, Run
from acgs1.core.errors import DomainError
from acgs1.kit.access import require
from acgs1.kit.web import api_router
from acgs1.optimizer.web import HotReads
from acgs1.services.evolutionary_computation.errors import (
    OutcomeRefused,
    PoliciesRefused,
    RunNotFound,
    TooManyRuns,
    TunableRefused,
)
from acgs1.services.evolutionary_computation.service import EvolutionService

STATUSES: dict[type[DomainError], int] = {
    RunNotFound: 404,
    TunableRefused: 422,
    PoliciesRefused: 422,
    OutcomeRefused: 422,
    TooManyRuns: 429,
}

router = api_router()


async def _service(request: Request) -> EvolutionService:
    return request.app.state.service


Service = Annotated[EvolutionService, Depends(_service)]
Writer = Annotated[Identity, require(Role.LEGISLATOR, Role.ADMIN, Role.OPERATOR)]
Reader = Annotated[Identity, require(Role.LEGISLATOR, Role.ADMIN, Role.OPERATOR, Role.AUDITOR)]


@router.post("/runs", status_code=202, summary="Tune thresholds from labelled outcomes", tags=["runs"])
async def _start(body: NewRun, service: Service, identity: Writer) -> Run:
    return await service.start(body, identity)


@router.get("/runs", summary="Runs, newest first", tags=["runs"])
async def _runs(
    service: Service, _: Reader, cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Page[Run]:
    return await service.runs(cursor, limit)


@router.get("/runs/{run_id}", summary="One run", tags=["runs"])
async def _run(
    run_id: str,
    service: Service,
    reads: HotReads,
    _: Reader,
    wait: Annotated[float, Query(ge=0, le=30, description="seconds to wait for the run to finish")] = 0.0,
) -> Run:
    # Callers with different patience do not share a load.
    return await reads.get("run", {"id": run_id, "wait": wait}, lambda: service.get(run_id, wait))

"""Routes of governance_synthesis."""

from typing import Annotated

from fastapi import Depends, Query, Request

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.common import Page
from acgs1.contracts.governance_synthesis import Draft, DraftSummary, NewDraft, RepairRequest
from acgs1.core.errors import DomainError
from acgs1.kit.access import require
from acgs1.kit.web import api_router
from acgs1.optimizer.web import HotReads
from acgs1.services.governance_synthesis.errors import (
    DraftNotFound,
    NothingToDraft,
    NothingToRepair,
    NotRepairable,
    PoliciesRefused,
    ReportOfAnotherDraft,
    SchemaRefused,
)
from acgs1.services.governance_synthesis.service import SynthesisService

STATUSES: dict[type[DomainError], int] = {
    DraftNotFound: 404,
    SchemaRefused: 422,
    NothingToDraft: 422,
    PoliciesRefused: 422,
    ReportOfAnotherDraft: 409,
    NothingToRepair: 409,
    NotRepairable: 409,
}

router = api_router()


async def _service(request: Request) -> SynthesisService:
    return request.app.state.service


Service = Annotated[SynthesisService, Depends(_service)]
Writer = Annotated[Identity, require(Role.LEGISLATOR, Role.ADMIN)]
Reader = Annotated[Identity, require(Role.LEGISLATOR, Role.ADMIN, Role.AUDITOR, Role.MEMBER)]


@router.post("/drafts", status_code=201, summary="Draft a policy set from principles", tags=["drafts"])
async def _draft(body: NewDraft, service: Service, identity: Writer) -> Draft:
    return await service.draft(body, identity)


@router.get("/drafts", summary="Drafts, newest first", tags=["drafts"])
async def _drafts(
    service: Service, _: Reader, cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Page[DraftSummary]:
    return await service.drafts(cursor, limit)


@router.get("/drafts/{draft_id}", summary="One draft in full", tags=["drafts"])
async def _get(draft_id: str, service: Service, reads: HotReads, _: Reader) -> Draft:
    return await reads.get("draft", {"id": draft_id}, lambda: service.get(draft_id))


@router.post(
    "/drafts/{draft_id}/repair",
    status_code=201,
    summary="Repair a draft from a report that refutes it",
    tags=["drafts"],
)
async def _repair(draft_id: str, body: RepairRequest, service: Service, identity: Writer) -> Draft:
    return await service.repair(draft_id, body, identity)

"""Routes of governance_synthesis."""

from typing import Annotated

from fastapi import Depends, Header, Query, Request

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.common import Page
from acgs1.contracts.governance_synthesis import (
    Draft,
    DraftSummary,
    NewDraft,
    NewPolicyCreation,
    RepairRequest,
    Workflow,
    WorkflowStatus,
    WorkflowSummary,
)
from acgs1.core.errors import DomainError
from acgs1.kit.access import require
from acgs1.kit.idempotency import FoundByKeyRoute
from acgs1.kit.web import api_router
from acgs1.optimizer.web import HotReads
from acgs1.services.governance_synthesis.errors import (
    DraftNotFound,
    InstructionNotRead,
    NothingToDraft,
    NothingToRepair,
    NotRepairable,
    NotTheStarter,
    PoliciesRefused,
    ReportOfAnotherDraft,
    SchemaRefused,
    WorkflowEnded,
    WorkflowNotFound,
)
from acgs1.services.governance_synthesis.runs import WorkflowRuns
from acgs1.services.governance_synthesis.service import SynthesisService

STATUSES: dict[type[DomainError], int] = {
    DraftNotFound: 404,
    SchemaRefused: 422,
    NothingToDraft: 422,
    PoliciesRefused: 422,
    ReportOfAnotherDraft: 409,
    NothingToRepair: 409,
    NotRepairable: 409,
    InstructionNotRead: 422,
    WorkflowNotFound: 404,
    WorkflowEnded: 409,
    NotTheStarter: 403,
}

router = api_router()
keyed = api_router(FoundByKeyRoute)


async def _service(request: Request) -> SynthesisService:
    return request.app.state.service


async def _runs(request: Request) -> WorkflowRuns:
    return request.app.state.runs


Runs = Annotated[WorkflowRuns, Depends(_runs)]
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


# --- workflows ---


@keyed.post("/workflows", status_code=201, summary="Create a policy: from sentences into force", tags=["workflows"])
async def _start(
    body: NewPolicyCreation,
    runs: Runs,
    identity: Writer,
    key: Annotated[str | None, Header(alias="Idempotency-Key", max_length=128)] = None,
) -> Workflow:
    return await runs.start(body, identity, key)


@router.get("/workflows", summary="Workflows, newest first", tags=["workflows"])
async def _workflows(
    runs: Runs,
    _: Reader,
    status: WorkflowStatus | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[WorkflowSummary]:
    return await runs.page(status, cursor, limit)


@router.get("/workflows/{workflow_id}", summary="One workflow with its steps", tags=["workflows"])
async def _workflow(workflow_id: str, runs: Runs, _: Reader) -> Workflow:
    return await runs.get(workflow_id)


@router.post("/workflows/{workflow_id}/cancellation", summary="Stop a workflow where it is", tags=["workflows"])
async def _cancel(workflow_id: str, runs: Runs, identity: Writer) -> Workflow:
    return await runs.cancel(workflow_id, identity)


@router.post(
    "/workflows/{workflow_id}/resumption", summary="Go on with a failed or cancelled workflow", tags=["workflows"]
)
async def _resume(workflow_id: str, runs: Runs, identity: Writer) -> Workflow:
    return await runs.resume(workflow_id, identity)

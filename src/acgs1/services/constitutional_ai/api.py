"""Routes of constitutional_ai."""

from typing import Annotated

from fastapi import Depends, Path, Query, Request, Response

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.common import Page
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.constitutional_ai import (
    Check,
    ConstitutionDocument,
    ConstitutionVersion,
    Difference,
    PrincipleInForce,
    difference,
)
from acgs1.core.errors import DomainError
from acgs1.kit.access import caller, require
from acgs1.kit.web import api_router
from acgs1.services.constitutional_ai.adapters.reads import ConstitutionReads
from acgs1.services.constitutional_ai.errors import (
    AdoptionInProgress,
    AmendmentNeedsVote,
    ConstitutionNotFound,
    InvalidConstitution,
    NoConstitutionInForce,
)
from acgs1.services.constitutional_ai.service import ConstitutionService

STATUSES: dict[type[DomainError], int] = {
    InvalidConstitution: 422,
    ConstitutionNotFound: 404,
    NoConstitutionInForce: 404,
    AmendmentNeedsVote: 409,
    AdoptionInProgress: 409,
}

router = api_router()


async def _service(request: Request) -> ConstitutionService:
    return request.app.state.service


async def _reads(request: Request) -> ConstitutionReads:
    return request.app.state.constitution_reads


Service = Annotated[ConstitutionService, Depends(_service)]
HotReads = Annotated[ConstitutionReads, Depends(_reads)]
Caller = Annotated[Identity, Depends(caller)]
Legislator = Annotated[Identity, require(Role.LEGISLATOR, Role.ADMIN)]
Hash = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.post("/constitutions/check", summary="Compile the invariants; keep nothing", tags=["constitutions"])
async def _check(body: Constitution, service: Service, _: Caller) -> Check:
    return await service.check(body)


@router.post("/constitutions", status_code=201, summary="Keep a constitution as a draft", tags=["constitutions"])
async def _draft(body: Constitution, service: Service, identity: Legislator) -> ConstitutionVersion:
    return await service.draft(body, identity)


@router.get("/constitutions", summary="Constitutions, newest first", tags=["constitutions"])
async def _versions(
    service: Service, _: Caller, cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Page[ConstitutionVersion]:
    return await service.versions(cursor, limit)


@router.get("/constitutions/in-force", summary="The constitution that binds now", tags=["constitutions"])
async def _in_force(service: Service, reads: HotReads, _: Caller) -> ConstitutionDocument:
    return await reads.in_force(service.in_force)


@router.get("/constitutions/{constitution_hash}", summary="One constitution in full", tags=["constitutions"])
async def _document(constitution_hash: Hash, service: Service, reads: HotReads, _: Caller) -> ConstitutionDocument:
    return await reads.document(constitution_hash, lambda: service.document(constitution_hash))


@router.get(
    "/constitutions/{constitution_hash}/difference",
    summary="What it would change in the one in force",
    tags=["constitutions"],
)
async def _difference(constitution_hash: Hash, service: Service, reads: HotReads, _: Caller) -> Difference:
    new = await reads.document(constitution_hash, lambda: service.document(constitution_hash))
    old = await reads.in_force(service.in_force)
    return difference(old.constitution, new.constitution)


@router.post(
    "/constitutions/{constitution_hash}/adoption", summary="Adopt the founding constitution", tags=["constitutions"]
)
async def _adopt(
    constitution_hash: Hash,
    service: Service,
    identity: Legislator,
    response: Response,
    wait: Annotated[float, Query(ge=0, le=30, description="seconds to wait for the ledger")] = 10.0,
) -> ConstitutionVersion:
    version = await service.adopt(constitution_hash, identity, wait)
    if version.status == "adopting":
        response.status_code = 202
    return version


@router.get("/principles/{principle_id}", summary="One principle of the constitution in force", tags=["principles"])
async def _principle(principle_id: str, service: Service, reads: HotReads, _: Caller) -> PrincipleInForce:
    return await reads.principle(principle_id, service.in_force)

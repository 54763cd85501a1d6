"""Routes of integrity."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.common import Page
from acgs1.contracts.events import EventBatch, Receipts
from acgs1.contracts.integrity import (
    AnchorRecord,
    Appeal,
    Checkpoint,
    ConsistencyProof,
    Entry,
    EvidenceBundle,
    InclusionProof,
    NewAppeal,
    Ruling,
)
from acgs1.core.errors import DomainError
from acgs1.core.merkle import MerkleError, TileId, parse_tile_path
from acgs1.kit.access import caller, require
from acgs1.kit.web import api_router
from acgs1.optimizer.batching import BatchClosed, BatchFull
from acgs1.optimizer.web import HotReads
from acgs1.services.integrity.appeals import AppealService
from acgs1.services.integrity.domain import READERS
from acgs1.services.integrity.errors import (
    AppealClosed,
    AppealNotFound,
    CheckpointNotFound,
    EntryNotFound,
    EventConflict,
    EventNotLoggable,
    InvalidRange,
    LedgerNotReady,
    LogHalted,
    NotAnchored,
    NothingToAnchor,
    ServiceMismatch,
    TileNotFound,
)
from acgs1.services.integrity.ports import EntryFilter
from acgs1.services.integrity.service import LogService

STATUSES: dict[type[DomainError], int] = {
    EventConflict: 409,
    EventNotLoggable: 422,
    ServiceMismatch: 403,
    EntryNotFound: 404,
    CheckpointNotFound: 404,
    TileNotFound: 404,
    InvalidRange: 422,
    NotAnchored: 409,
    NothingToAnchor: 409,
    LogHalted: 503,
    LedgerNotReady: 503,
    AppealNotFound: 404,
    AppealClosed: 409,
    BatchFull: 503,
    BatchClosed: 503,
}
PUBLIC = frozenset({"/checkpoint", "/log-key"})
"""A checkpoint is for everybody to keep: whoever holds one can show that the log was changed later."""

_IMMUTABLE = {"Cache-Control": "private, max-age=31536000, immutable"}
_FRESH = {"Cache-Control": "public, max-age=1"}


async def _log_service(request: Request) -> LogService:
    return request.app.state.log


async def _appeal_service(request: Request) -> AppealService:
    return request.app.state.appeals


Log = Annotated[LogService, Depends(_log_service)]
Appeals = Annotated[AppealService, Depends(_appeal_service)]
Caller = Annotated[Identity, Depends(caller)]
Reader = Annotated[Identity, require(*READERS)]
Auditor = Annotated[Identity, require(Role.AUDITOR, Role.ADMIN, Role.SERVICE)]
Service = Annotated[Identity, require(Role.SERVICE)]
Operator = Annotated[Identity, require(Role.OPERATOR, Role.ADMIN)]
Judge = Annotated[Identity, require(Role.LEGISLATOR, Role.ADMIN)]
Limit = Annotated[int, Query(ge=1, le=200)]
TreeSize = Annotated[int | None, Query(ge=0, le=2**53 - 1, description="of a signed checkpoint; the newest by default")]


def _reader(identity: Identity) -> dict[str, str | list[str]]:
    """Who may read it is part of the question: what one caller was shown is not shown to another."""
    return {"reader": identity.id, "roles": sorted(identity.roles)}


# Events carry their own ids, by which the log recognises a repeated request: no idempotency record is needed.
log = APIRouter(prefix="/api/v1")
router = api_router()
standard = APIRouter()


@log.post("/events", summary="Log events of the calling service", tags=["log"])
async def _append(body: EventBatch, service: Log, identity: Service) -> Receipts:
    return await service.append(body.events, identity)


@router.get("/entries", summary="Entries, newest first", tags=["log"])
async def _entries(
    service: Log,
    _: Reader,
    type: Annotated[str | None, Query(max_length=80)] = None,  # noqa: A002 - the event's field
    source: Annotated[str | None, Query(alias="service", max_length=64)] = None,
    subject: Annotated[str | None, Query(max_length=256)] = None,
    actor: Annotated[str | None, Query(max_length=256)] = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    cursor: str | None = None,
    limit: Limit = 50,
) -> Page[Entry]:
    return await service.entries(EntryFilter(type, source, subject, actor, since, until), cursor, limit)


@router.get("/entries/{event_id}", summary="The entry of one event", tags=["log"])
async def _entry(event_id: str, service: Log, identity: Caller) -> Entry:
    return await service.entry(event_id, identity)


@router.get("/checkpoints", summary="Signed checkpoints, newest first", tags=["log"])
async def _checkpoints(service: Log, _: Caller, cursor: str | None = None, limit: Limit = 50) -> Page[Checkpoint]:
    return await service.checkpoints(cursor, limit)


@router.get("/checkpoints/latest", summary="The newest checkpoint", tags=["log"])
async def _latest(service: Log, _: Caller) -> Checkpoint:
    return await service.checkpoint()


@router.get("/proofs/inclusion", summary="That an event stands in the log (RFC 9162, section 2.1.3)", tags=["proofs"])
async def _inclusion(
    service: Log,
    reads: HotReads,
    identity: Caller,
    event_id: Annotated[str, Query(max_length=80)],
    tree_size: TreeSize = None,
) -> InclusionProof:
    if tree_size is None:
        return await service.inclusion(event_id, None, identity)
    params = {"id": event_id, "size": tree_size, **_reader(identity)}
    return await reads.get("inclusion", params, lambda: service.inclusion(event_id, tree_size, identity))


@router.get("/proofs/consistency", summary="That the log only grew (RFC 9162, section 2.1.4)", tags=["proofs"])
async def _consistency(
    service: Log,
    reads: HotReads,
    _: Caller,
    old_size: Annotated[int, Query(ge=0, le=2**53 - 1)],
    new_size: TreeSize = None,
) -> ConsistencyProof:
    if new_size is None:
        return await service.consistency(old_size, None)
    params = {"old": old_size, "new": new_size}
    return await reads.get("consistency", params, lambda: service.consistency(old_size, new_size))


@router.get("/evidence/{event_id}", summary="A bundle that verifies offline", tags=["proofs"])
async def _evidence(
    event_id: str,
    service: Log,
    reads: HotReads,
    identity: Caller,
    tree_size: TreeSize = None,
    wait: Annotated[float, Query(ge=0, le=60, description="seconds to wait for the anchor")] = 0,
) -> EvidenceBundle:
    # Callers with different patience do not share a load.
    params = {"id": event_id, "size": tree_size, "wait": wait, **_reader(identity)}
    return await reads.get(
        "evidence", params, lambda: service.evidence(event_id, tree_size, wait, identity), tags=[event_id]
    )


@router.post("/anchors", status_code=201, summary="Anchor the newest root on the ledger now", tags=["anchors"])
async def _anchor(service: Log, _: Operator) -> AnchorRecord:
    return await service.anchor_now()


@router.get("/anchors", summary="Roots on the ledger, newest first", tags=["anchors"])
async def _anchors(service: Log, _: Caller, cursor: str | None = None, limit: Limit = 50) -> Page[AnchorRecord]:
    return await service.anchors(cursor, limit)


@router.post("/appeals", status_code=201, summary="Challenge a decision or a policy", tags=["appeals"])
async def _appeal(body: NewAppeal, service: Appeals, identity: Caller) -> Appeal:
    return await service.appeal(body, identity)


@router.get("/appeals", summary="Appeals, newest first", tags=["appeals"])
async def _appeals(
    service: Appeals,
    identity: Caller,
    subject: Annotated[str | None, Query(max_length=80)] = None,
    cursor: str | None = None,
    limit: Limit = 50,
) -> Page[Appeal]:
    return await service.list(subject, cursor, limit, identity)


@router.get("/appeals/{appeal_id}", summary="One appeal", tags=["appeals"])
async def _one_appeal(appeal_id: str, service: Appeals, identity: Caller) -> Appeal:
    return await service.get(appeal_id, identity)


@router.post("/appeals/{appeal_id}/ruling", summary="Decide an appeal", tags=["appeals"])
async def _rule(appeal_id: str, body: Ruling, service: Appeals, identity: Judge) -> Appeal:
    return await service.rule(appeal_id, body, identity)


@standard.get("/checkpoint", summary="The newest checkpoint as a signed note (tlog-tiles)", tags=["tiles"])
async def _note(service: Log) -> Response:
    return Response((await service.checkpoint()).note, headers=_FRESH, media_type="text/plain; charset=utf-8")


@standard.get("/log-key", summary="The log's verifier key (C2SP vkey)", tags=["tiles"])
async def _key(service: Log) -> Response:
    return Response(service.log_key + "\n", headers=_FRESH, media_type="text/plain; charset=utf-8")


@standard.get("/tile/entries/{path:path}", summary="An entry bundle (tlog-tiles)", tags=["tiles"])
async def _bundle(path: str, service: Log, _: Auditor) -> Response:
    number, width = _tile_path(path)
    return Response(
        await service.entry_bundle(number, width), headers=_IMMUTABLE, media_type="application/octet-stream"
    )


@standard.get("/tile/{level}/{path:path}", summary="A tile of hashes (tlog-tiles)", tags=["tiles"])
async def _tile(level: str, path: str, service: Log, _: Auditor) -> Response:
    # Levels beyond 6 would hold more than 2^56 leaves; the specification allows up to 63 in a name.
    if not (level.isascii() and level.isdigit() and len(level) <= 2 and str(int(level)) == level and int(level) <= 63):
        raise TileNotFound(f"`{level[:20]}` is not the level of a tile")
    number, width = _tile_path(path)
    hashes = await service.tile(TileId(int(level), number), width)
    return Response(hashes, headers=_IMMUTABLE, media_type="application/octet-stream")


def _tile_path(path: str) -> tuple[int, int]:
    try:
        number, width = parse_tile_path(path)
    except MerkleError as error:
        raise TileNotFound(str(error)) from error
    if number >= 1 << 53:
        raise TileNotFound(f"there is no tile {number}")
    return number, width

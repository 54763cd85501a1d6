"""Routes of policy_governance."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.common import Page
from acgs1.contracts.policy_governance import (
    Approval,
    ApprovalAnswer,
    Ballot,
    Bundle,
    BundleSummary,
    ConstitutionToRatify,
    DecisionDocument,
    DecisionRecord,
    EmergencyReceipt,
    EvaluationRequest,
    EvaluationResponse,
    GovernanceState,
    LedgerReceipt,
    Member,
    NewApproval,
    NewBallot,
    NewBundle,
    NewEmergency,
    NewMember,
    NewProposal,
    Proposal,
)
from acgs1.core.errors import DomainError
from acgs1.kit.access import caller, require
from acgs1.kit.web import api_router
from acgs1.ledger.errors import LedgerError, LedgerUnavailableError
from acgs1.optimizer.web import HotReads
from acgs1.services.policy_governance import errors
from acgs1.services.policy_governance.acting import acting
from acgs1.services.policy_governance.service.approvals import Approvals
from acgs1.services.policy_governance.service.bundles import Bundles
from acgs1.services.policy_governance.service.decisions import DecisionPoint
from acgs1.services.policy_governance.service.voting import Voting

STATUSES: dict[type[DomainError], int] = {
    errors.NotAMember: 403,
    errors.MemberExists: 409,
    errors.NotAPerson: 422,
    errors.BundleNotFound: 404,
    errors.CertificateRejected: 422,
    errors.ConstitutionNotInForce: 409,
    errors.LedgerConflict: 409,
    errors.ProposalNotFound: 404,
    errors.ProposalNotOpen: 409,
    errors.BundleNotAdopted: 409,
    errors.ActivationFrozen: 409,
    errors.NoActiveBundle: 404,
    errors.NotTheSubject: 403,
    errors.DecisionNotFound: 404,
    errors.NotApprovable: 409,
    errors.RequestDiffers: 409,
    errors.ApprovalNotFound: 404,
    errors.ApprovalClosed: 409,
    errors.BadEvaluation: 400,
    LedgerError: 409,
    LedgerUnavailableError: 503,
}
PUBLIC = frozenset({"/.well-known/authzen-configuration"})

router = api_router()
# No idempotency records here: a decision needs no database, and an old answer must not stand for a new one.
standard = APIRouter()


def _part(name: str) -> Any:
    async def part(request: Request) -> Any:
        return getattr(request.app.state, name)

    return Depends(part)


VotingPart = Annotated[Voting, _part("voting")]
BundlesPart = Annotated[Bundles, _part("bundles")]
Point = Annotated[DecisionPoint, _part("point")]
ApprovalsPart = Annotated[Approvals, _part("approvals")]
Caller = Annotated[Identity, Depends(caller)]
Admin = Annotated[Identity, require(Role.ADMIN)]
MemberCaller = Annotated[Identity, require(Role.MEMBER)]
Operator = Annotated[Identity, require(Role.OPERATOR, Role.ADMIN)]
Reader = Annotated[Identity, require(Role.AUDITOR, Role.OPERATOR, Role.ADMIN, Role.SERVICE)]
Asker = Annotated[Identity, require(Role.AGENT, Role.SERVICE, Role.OPERATOR)]
Service = Annotated[Identity, require(Role.SERVICE, Role.ADMIN)]
# What a workflow may do in the name of its starter.
Drafter = Annotated[Identity, acting(Role.LEGISLATOR, Role.ADMIN)]
Proposer = Annotated[Identity, acting(Role.MEMBER)]
Activator = Annotated[Identity, acting(Role.OPERATOR, Role.ADMIN)]
Hash = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
Limit = Annotated[int, Query(ge=1, le=200)]

# --- the vote ---


@router.get("/ledger/state", summary="What the ledger says now", tags=["vote"])
async def _state(voting: VotingPart, reads: HotReads, _: Caller) -> GovernanceState:
    return await reads.get("ledger_state", {}, voting.state)


@router.post("/ledger/constitution", summary="Ratify the founding constitution", tags=["vote"])
async def _ratify(body: ConstitutionToRatify, voting: VotingPart, identity: Service) -> LedgerReceipt:
    return await voting.ratify(body.constitution, identity)


@router.post("/members", status_code=201, summary="Register a voting member", tags=["vote"])
async def _register(body: NewMember, voting: VotingPart, identity: Admin) -> Member:
    return await voting.register_member(body, identity)


@router.get("/members", summary="The member register", tags=["vote"])
async def _members(voting: VotingPart, _: Caller) -> list[Member]:
    return await voting.members()


@router.post("/proposals", status_code=201, summary="Propose a bundle", tags=["vote"])
async def _propose(body: NewProposal, voting: VotingPart, identity: Proposer) -> Proposal:
    return await voting.propose(body, identity)


@router.get("/proposals", summary="Proposals, newest first", tags=["vote"])
async def _proposals(voting: VotingPart, _: Caller, cursor: str | None = None, limit: Limit = 50) -> Page[Proposal]:
    return await voting.proposals(cursor, limit)


@router.get("/proposals/{proposal_id}", summary="One proposal", tags=["vote"])
async def _proposal(proposal_id: str, voting: VotingPart, _: Caller) -> Proposal:
    return await voting.proposal(proposal_id)


@router.post("/proposals/{proposal_id}/ballots", status_code=201, summary="Vote", tags=["vote"])
async def _vote(proposal_id: str, body: NewBallot, voting: VotingPart, identity: Caller) -> Ballot:
    return await voting.vote(proposal_id, body, identity)


@router.post(
    "/proposals/{proposal_id}/finalization", summary="Close the vote and enact what it accepted", tags=["vote"]
)
async def _finalize(
    proposal_id: str, voting: VotingPart, identity: Annotated[Identity, require(Role.MEMBER, Role.ADMIN, Role.SERVICE)]
) -> Proposal:
    return await voting.finalize(proposal_id, identity)


@router.post("/emergencies", status_code=201, summary="Stop something at once, for at most 72 hours", tags=["vote"])
async def _emergency(body: NewEmergency, bundles: BundlesPart, identity: Admin) -> EmergencyReceipt:
    return await bundles.act_in_emergency(body, identity)


# --- bundles ---


@router.post("/bundles", status_code=201, summary="Build a bundle from proved policies", tags=["bundles"])
async def _build(body: NewBundle, bundles: BundlesPart, identity: Drafter) -> Bundle:
    return await bundles.build(body, identity)


@router.get("/bundles", summary="Bundles, newest first", tags=["bundles"])
async def _bundles(
    bundles: BundlesPart, _: Caller, cursor: str | None = None, limit: Limit = 50
) -> Page[BundleSummary]:
    return await bundles.page(cursor, limit)


@router.get("/bundles/active", summary="The bundle that decides now", tags=["bundles"])
async def _active(bundles: BundlesPart, _: Caller) -> Bundle:
    return await bundles.active()


@router.get("/bundles/{bundle_hash}", summary="One bundle", tags=["bundles"])
async def _bundle(bundle_hash: Hash, bundles: BundlesPart, _: Caller) -> Bundle:
    return await bundles.bundle(bundle_hash)


@router.post("/bundles/{bundle_hash}/activation", summary="Decide by an adopted bundle from now on", tags=["bundles"])
async def _activate(bundle_hash: Hash, bundles: BundlesPart, identity: Activator) -> Bundle:
    return await bundles.activate(bundle_hash, identity)


# --- decisions and approvals ---


@standard.post("/access/v1/evaluation", summary="May this be done (AuthZEN 1.0, section 6)", tags=["decisions"])
async def _evaluate(body: EvaluationRequest, point: Point, identity: Asker) -> EvaluationResponse:
    return await point.decide(body, identity)


@standard.get("/.well-known/authzen-configuration", summary="AuthZEN metadata (section 9)", tags=["decisions"])
async def _configuration(request: Request) -> dict[str, str]:
    base = str(request.base_url).rstrip("/")
    return {"policy_decision_point": base, "access_evaluation_endpoint": f"{base}/access/v1/evaluation"}


@router.get("/decisions", summary="Decisions, newest first", tags=["decisions"])
async def _decisions(point: Point, _: Reader, cursor: str | None = None, limit: Limit = 50) -> Page[DecisionRecord]:
    return await point.page(cursor, limit)


@router.get("/decisions/{decision_id}", summary="One decision with the request that was decided", tags=["decisions"])
async def _decision(decision_id: str, point: Point, _: Reader) -> DecisionDocument:
    return await point.document(decision_id)


@router.post("/approvals", status_code=201, summary="Ask a person to approve a denied request", tags=["approvals"])
async def _ask(body: NewApproval, approvals: ApprovalsPart, identity: Asker) -> Approval:
    return await approvals.ask(body, identity)


@router.get("/approvals", summary="Approvals, newest first", tags=["approvals"])
async def _approvals(
    approvals: ApprovalsPart,
    _: Annotated[Identity, require(Role.OPERATOR, Role.ADMIN, Role.AUDITOR)],
    status: Literal["pending", "granted", "refused", "used", "expired"] | None = None,
    cursor: str | None = None,
    limit: Limit = 50,
) -> Page[Approval]:
    return await approvals.page(status, cursor, limit)


@router.get("/approvals/{approval_id}", summary="One approval", tags=["approvals"])
async def _approval(approval_id: str, approvals: ApprovalsPart, identity: Caller) -> Approval:
    return await approvals.approval(approval_id, identity)


@router.post("/approvals/{approval_id}/answer", summary="Grant or refuse", tags=["approvals"])
async def _answer(approval_id: str, body: ApprovalAnswer, approvals: ApprovalsPart, identity: Operator) -> Approval:
    return await approvals.answer(approval_id, body, identity)

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
    ConstitutionOnLedger,
    ConstitutionToRatify,
    DecisionDocument,
    DecisionRecord,
    Emergency,
    EmergencyReceipt,
    EvaluationRequest,
    EvaluationResponse,
    GovernanceState,
    LedgerReceipt,
    Member,
    NewAmendment,
    NewApproval,
    NewBallot,
    NewBundle,
    NewEmergency,
    NewMember,
    NewMembershipChange,
    NewParameters,
    NewProposal,
    NewRatification,
    NewWalletTransaction,
    Proposal,
    SignedTransaction,
    WalletTransaction,
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
from acgs1.services.policy_governance.service.chronicle import Chronicle
from acgs1.services.policy_governance.service.decisions import DecisionPoint
from acgs1.services.policy_governance.service.emergencies import EmergencyPowers
from acgs1.services.policy_governance.service.members import Members
from acgs1.services.policy_governance.service.voting import Voting
from acgs1.services.policy_governance.service.wallets import Wallets

STATUSES: dict[type[DomainError], int] = {
    errors.NotAMember: 403,
    errors.MemberExists: 409,
    errors.InvalidWallet: 422,
    errors.WalletTaken: 409,
    errors.OwnWallet: 409,
    errors.WalletKeptHere: 409,
    errors.WalletTransactionNotFound: 404,
    errors.TransactionAltered: 422,
    errors.WrongSigner: 422,
    errors.TransactionExpired: 409,
    errors.AmendmentTooWide: 422,
    errors.NothingToChange: 422,
    errors.NotTheProposer: 403,
    errors.ConstitutionUnknown: 404,
    errors.EmergencyNotFound: 404,
    errors.CursorLost: 503,
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
MembersPart = Annotated[Members, _part("members")]
WalletsPart = Annotated[Wallets, _part("wallets")]
PowersPart = Annotated[EmergencyPowers, _part("powers")]
ChroniclePart = Annotated[Chronicle, _part("chronicle")]
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


@router.get("/ledger/constitution", summary="The constitution that the ledger has in force", tags=["vote"])
async def _on_ledger(chronicle: ChroniclePart, _: Caller) -> ConstitutionOnLedger:
    return await chronicle.constitution()


@router.post("/ledger/constitution", summary="Ratify the founding constitution", tags=["vote"])
async def _ratify(body: ConstitutionToRatify, members: MembersPart, _: Service) -> LedgerReceipt:
    return await members.ratify(body.constitution)


@router.post("/members", status_code=201, summary="Register a voting member before the first adoption", tags=["vote"])
async def _register(body: NewMember, members: MembersPart, identity: Admin) -> Member:
    return await members.register(body, identity)


@router.get("/members", summary="The member register, by wallet", tags=["vote"])
async def _members(members: MembersPart, _: Caller, cursor: str | None = None, limit: Limit = 50) -> Page[Member]:
    return await members.page(cursor, limit)


@router.post("/proposals", status_code=201, summary="Propose a bundle", tags=["vote"])
async def _propose(body: NewProposal, voting: VotingPart, identity: Proposer) -> Proposal:
    return await voting.propose(body, identity)


@router.post("/proposals/amendments", status_code=201, summary="Propose to amend the constitution", tags=["vote"])
async def _propose_amendment(body: NewAmendment, voting: VotingPart, identity: MemberCaller) -> Proposal:
    return await voting.propose_amendment(body, identity)


@router.post("/proposals/memberships", status_code=201, summary="Propose to change the members", tags=["vote"])
async def _propose_membership(body: NewMembershipChange, voting: VotingPart, identity: MemberCaller) -> Proposal:
    return await voting.propose_membership(body, identity)


@router.post("/proposals/parameters", status_code=201, summary="Propose other rules for votes", tags=["vote"])
async def _propose_parameters(body: NewParameters, voting: VotingPart, identity: MemberCaller) -> Proposal:
    return await voting.propose_parameters(body, identity)


@router.post("/proposals/ratifications", status_code=201, summary="Put an emergency action to the vote", tags=["vote"])
async def _propose_ratification(body: NewRatification, voting: VotingPart, identity: MemberCaller) -> Proposal:
    return await voting.propose_ratification(body, identity)


@router.get("/proposals", summary="Proposals, newest first", tags=["vote"])
async def _proposals(voting: VotingPart, _: Caller, cursor: str | None = None, limit: Limit = 50) -> Page[Proposal]:
    return await voting.proposals(cursor, limit)


@router.get("/proposals/{proposal_id}", summary="One proposal", tags=["vote"])
async def _proposal(proposal_id: str, voting: VotingPart, _: Caller) -> Proposal:
    return await voting.proposal(proposal_id)


@router.get("/proposals/{proposal_id}/ballots", summary="The ballots that the ledger took, by wallet", tags=["vote"])
async def _ballots(
    proposal_id: str, voting: VotingPart, _: Caller, cursor: str | None = None, limit: Limit = 50
) -> Page[Ballot]:
    return await voting.ballots(proposal_id, cursor, limit)


@router.post("/proposals/{proposal_id}/ballots", status_code=201, summary="Vote", tags=["vote"])
async def _vote(proposal_id: str, body: NewBallot, voting: VotingPart, identity: Caller) -> Ballot:
    return await voting.vote(proposal_id, body, identity)


@router.post(
    "/proposals/{proposal_id}/finalization", summary="Close the vote and carry out what it decided", tags=["vote"]
)
async def _finalize(
    proposal_id: str, voting: VotingPart, identity: Annotated[Identity, require(Role.MEMBER, Role.ADMIN, Role.SERVICE)]
) -> Proposal:
    return await voting.finalize(proposal_id, identity)


@router.post("/proposals/{proposal_id}/cancellation", summary="Take a proposal of one's own back", tags=["vote"])
async def _cancel(proposal_id: str, voting: VotingPart, identity: MemberCaller) -> Proposal:
    return await voting.cancel(proposal_id, identity)


@router.post(
    "/proposals/{proposal_id}/closing", summary="Close a finished proposal; its rent comes back", tags=["vote"]
)
async def _close(proposal_id: str, voting: VotingPart, identity: MemberCaller) -> Proposal:
    return await voting.close(proposal_id, identity)


@router.post("/wallet-transactions", status_code=201, summary="A transaction for one's own wallet", tags=["wallets"])
async def _hand_out(body: NewWalletTransaction, wallets: WalletsPart, identity: MemberCaller) -> WalletTransaction:
    return await wallets.hand_out(body, identity)


@router.post("/wallet-transactions/{transaction_id}/signature", summary="Hand it back signed", tags=["wallets"])
async def _take_back(
    transaction_id: str, body: SignedTransaction, wallets: WalletsPart, identity: MemberCaller
) -> WalletTransaction:
    return await wallets.take_back(transaction_id, body.transaction, identity)


@router.post("/emergencies", status_code=201, summary="Stop something at once, for at most 72 hours", tags=["vote"])
async def _emergency(body: NewEmergency, powers: PowersPart, identity: Admin) -> EmergencyReceipt:
    return await powers.act(body, identity)


@router.get("/emergencies", summary="Emergency actions, newest first", tags=["vote"])
async def _emergencies(powers: PowersPart, _: Caller, cursor: str | None = None, limit: Limit = 50) -> Page[Emergency]:
    return await powers.actions(cursor, limit)


@router.post("/emergencies/{index}/end", summary="End an emergency action before its time", tags=["vote"])
async def _end_emergency(index: Annotated[int, Path(ge=0)], powers: PowersPart, identity: Admin) -> Emergency:
    return await powers.end(index, identity)


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
async def _active(bundles: BundlesPart, reads: HotReads, _: Caller) -> Bundle:
    return await reads.get("active_bundle", {}, bundles.active)


@router.get("/bundles/{bundle_hash}", summary="One bundle", tags=["bundles"])
async def _bundle(bundle_hash: Hash, bundles: BundlesPart, reads: HotReads, _: Caller) -> Bundle:
    return await reads.get("bundle", {"hash": bundle_hash}, lambda: bundles.bundle(bundle_hash))


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
async def _decision(decision_id: str, point: Point, reads: HotReads, _: Reader) -> DecisionDocument:
    return await reads.get("decision", {"id": decision_id}, lambda: point.document(decision_id))


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

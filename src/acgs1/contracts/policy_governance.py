"""Boundary of the policy governance service (port 8005): votes, bundles, decisions, approvals."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from acgs1.contracts.common import Message, Sha256
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.events import Commitment
from acgs1.contracts.formal_verification import Certificate, PolicyText

# --- the vote --------------------------------------------------------------------------------------------------------


VotingSeconds = Annotated[int, Field(ge=1, le=30 * 86400)]
Weight = Annotated[int, Field(ge=1, le=2**53 - 1)]
Title = Annotated[str, Field(min_length=1, max_length=200)]
UserId = Annotated[str, Field(pattern=r"^usr_[0-9a-f-]{36}$")]
Address = Annotated[str, Field(pattern=r"^[1-9A-HJ-NP-Za-km-z]{32,44}$", description="a Solana address, base58")]
Choice = Literal["for", "against", "abstain"]


class NewMember(Message):
    """Register a voting member before the first adoption: the person's account and the weight the register gives them.

    `wallet`: the address of a wallet that the person holds; without it one is kept here for them.
    """

    user_id: UserId
    weight: Weight
    wallet: Address | None = None


class Member(Message):
    """A member as the ledger has them. `user_id` is None for a wallet that was registered past this service; `own_wallet`: the key is
    the person's, and what they do needs their signature (`/api/v1/wallet-transactions`). `weight` 0: no longer a member."""

    user_id: str | None
    wallet: str
    weight: int
    index: int
    own_wallet: bool = False


class ConstitutionToRatify(Message):
    """Put the founding constitution on the ledger and end the bootstrap."""

    constitution: Constitution


class LedgerReceipt(Message):
    signature: str
    constitution_hash: Sha256
    constitution_version: int


class ConstitutionOnLedger(Message):
    """The constitution that the ledger has in force, as this service has followed it; nulls before ratification."""

    constitution_hash: Sha256 | None
    constitution_version: int
    signature: str | None = Field(description="the transaction that brought it into force")
    since: datetime | None


class GovernanceState(Message):
    """What the ledger says now."""

    program_id: str
    constitution_hash: Sha256 | None
    constitution_version: int
    ratified: bool
    threshold_bp: int
    quorum_bp: int
    members: int
    total_weight: int
    proposals: int
    voting_seconds: int = 0
    vote_change_allowed: bool = False


class NewBundle(Message):
    """Build the bundle for a policy set and its certificate."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    policies: PolicyText
    constitution: Constitution
    certificate: Certificate


BundleStatus = Literal["built", "adopted", "active", "retired"]


class Bundle(Message):
    """What a decision point loads. Immutable; `hash` is SHA-256 of the canonical JSON of its content."""

    hash: Sha256
    name: str
    status: BundleStatus
    policies: str
    schema_text: str
    guards: str
    guard_principles: dict[str, str] = Field(description="guard policy id -> principle id")
    constitution_hash: Sha256
    certificate_hash: Sha256
    signature: str
    created_at: datetime
    activated_at: datetime | None


class BundleSummary(Message):
    hash: Sha256
    name: str
    status: BundleStatus
    constitution_hash: Sha256
    certificate_hash: Sha256
    created_at: datetime
    activated_at: datetime | None


ProposalKind = Literal["policy", "principle", "constitution", "membership", "parameters", "emergency_ratification"]
ProposalStatus = Literal["unsigned", "submitting", "open", "accepted", "rejected", "enacted", "cancelled"]


class NewProposal(Message):
    """Propose a bundle for a vote. The voting window is seconds from now."""

    bundle_hash: Sha256
    title: Title
    voting_seconds: VotingSeconds = 3 * 86400


class NewAmendment(Message):
    """Propose to replace the constitution in force by a draft of constitutional_ai. One subject at a time: one principle added, amended
    or retired, or else the text around the principles (name, preamble, schema, order)."""

    constitution_hash: Sha256
    title: Title
    voting_seconds: VotingSeconds = 3 * 86400


class NewMembershipChange(Message):
    """Propose to register a member, to change a weight, or to remove a member. `weight` goes with the first two; `wallet` with the
    first, for a person who holds their own."""

    action: Literal["register", "set_weight", "remove"]
    user_id: UserId
    weight: Weight | None = None
    wallet: Address | None = None
    title: Title
    voting_seconds: VotingSeconds = 3 * 86400


class NewParameters(Message):
    """Propose other rules for the votes to come. What is left out stays as it is."""

    threshold_bp: Annotated[int, Field(ge=5001, le=10_000)] | None = None
    quorum_bp: Annotated[int, Field(ge=1, le=10_000)] | None = None
    shortest_voting_seconds: VotingSeconds | None = None
    vote_change_allowed: bool | None = None
    title: Title
    voting_seconds: VotingSeconds = 3 * 86400


class NewRatification(Message):
    """Put an emergency action to the vote: accepted, it stays until a vote ends it; rejected by a quorum, it ends at once."""

    emergency: Annotated[int, Field(ge=0)]
    title: Title
    voting_seconds: VotingSeconds = 86400
    """The vote has to end before the action does."""


class AddPrinciple(Message):
    change: Literal["add_principle"] = "add_principle"
    principle_id: str
    title: str
    content_hash: Sha256
    constitution_hash: Sha256


class AmendPrinciple(Message):
    """`index`: the principle's place in the ledger's register."""

    change: Literal["amend_principle"] = "amend_principle"
    principle_id: str
    index: int
    title: str
    content_hash: Sha256
    constitution_hash: Sha256


class RetirePrinciple(Message):
    change: Literal["retire_principle"] = "retire_principle"
    principle_id: str
    index: int
    constitution_hash: Sha256


class AmendText(Message):
    """Name, preamble, schema or order; the principles stay."""

    change: Literal["amend_text"] = "amend_text"
    constitution_hash: Sha256


class RegisterMember(Message):
    change: Literal["register_member"] = "register_member"
    user_id: str
    wallet: str
    weight: int


class SetWeight(Message):
    change: Literal["set_weight"] = "set_weight"
    user_id: str | None
    wallet: str
    weight: int


class RemoveMember(Message):
    change: Literal["remove_member"] = "remove_member"
    user_id: str | None
    wallet: str


class SetParameters(Message):
    change: Literal["set_parameters"] = "set_parameters"
    shortest_voting_seconds: int
    threshold_bp: int
    quorum_bp: int
    vote_change_allowed: bool


class RatifyEmergency(Message):
    """`agent`: the hash of the agent's id where the action revokes one; its vote names that agent's account."""

    change: Literal["ratify_emergency"] = "ratify_emergency"
    emergency: int
    agent: Sha256 | None = None


Amendment = AddPrinciple | AmendPrinciple | RetirePrinciple | AmendText
MembershipChange = RegisterMember | SetWeight | RemoveMember
Change = Annotated[Amendment | MembershipChange | SetParameters | RatifyEmergency, Field(discriminator="change")]


class Proposal(Message):
    """A proposal as the ledger has it, with what only this service knows: title, bundle, the change in words.

    `change` says what a proposal of another kind than `policy` would do; None also for one that was made past this service, of which
    only the content's hash is known. `enacting`: somebody has asked to carry it out. `refusal`: the ledger's code when it last said no.
    `closed`: its account is gone and its rent was paid back.
    """

    id: str
    kind: ProposalKind = "policy"
    title: str
    bundle_hash: Sha256 | None
    certificate_hash: Sha256 | None
    content_hash: Sha256 | None = None
    change: Change | None = None
    status: ProposalStatus
    index: int | None
    address: str | None
    for_weight: int
    against_weight: int
    abstain_weight: int
    total_weight: int | None = None
    quorum_reached: bool | None = None
    constitution_version: int | None = Field(default=None, description="in force when the proposal was made")
    closes_at: datetime | None
    voting_seconds: int
    proposed_by: str
    wallet: str | None = Field(default=None, description="the proposer's, which pays the rent and gets it back")
    signatures: dict[str, str] = Field(default={}, description="ledger step -> transaction signature")
    tried_at: datetime | None = Field(default=None, description="when it was last sent to the ledger")
    enacting: bool = False
    refusal: str | None = None
    closed: bool = False
    rent_lamports: int | None = Field(default=None, description="paid back to the proposer's wallet on closing")
    created_at: datetime


class NewEmergency(Message):
    """Stop something at once, for at most 72 hours: a policy set (`target`: its hash), an agent (`target`: its id), or every activation."""

    kind: Literal["suspend_policy", "freeze_activation", "revoke_agent"]
    target: Annotated[str, Field(max_length=80)] | None = None
    reason: Annotated[str, Field(min_length=1, max_length=2000)]
    seconds: Annotated[int, Field(ge=1, le=72 * 3600)]


class EmergencyReceipt(Message):
    index: int


class Emergency(Message):
    """An emergency action as the ledger has it. `target`: the hash of the policy set, or of the agent's id; None for a freeze.
    `confirmed` by a vote it has no end; `expires_at` is None then."""

    index: int
    kind: Literal["suspend_policy", "freeze_activation", "revoke_agent"]
    target: Sha256 | None
    status: Literal["active", "confirmed", "ended", "expired"]
    expires_at: datetime | None


class NewBallot(Message):
    choice: Choice


class Ballot(Message):
    proposal_id: str
    choice: Choice
    weight: int
    signature: str
    wallet: str | None = None
    user_id: str | None = None


class NewWalletTransaction(Message):
    """Ask for a transaction to sign with one's own wallet. `choice` goes with `vote` alone."""

    act: Literal["propose", "vote", "cancel", "close"]
    proposal_id: str
    choice: Choice | None = None


class WalletTransaction(Message):
    """A transaction for the member's wallet. Sign its message as it is and hand it back before the ledger's block height passes
    `last_valid_block_height` (about a minute). The fee is paid here; rent of a proposal is the wallet's."""

    id: str
    act: Literal["propose", "vote", "cancel", "close"]
    proposal_id: str
    choice: Choice | None
    wallet: str
    transaction: str = Field(description="wire form with empty signatures, base64")
    last_valid_block_height: int
    status: Literal["handed_out", "signed", "landed", "refused"]
    signature: str | None = None


class SignedTransaction(Message):
    """The transaction with the wallet's signature in its place."""

    transaction: Annotated[str, Field(min_length=1, max_length=2000, description="wire form, base64")]


# --- decisions: AuthZEN 1.0 ------------------------------------------------------------------------------------------


class _Open(BaseModel):
    """AuthZEN objects admit further members."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Subject(_Open):
    type: str
    id: str
    properties: dict[str, Any] = {}


class Action(_Open):
    name: str
    properties: dict[str, Any] = {}


class Resource(_Open):
    type: str
    id: str
    properties: dict[str, Any] = {}


class EvaluationRequest(_Open):
    """AuthZEN Authorization API 1.0, section 6.

    `properties` of subject and resource are their Cedar attributes, which the enforcement point takes from the system of record.
    `context.approval` = `{"id": "apr_..."}` names a granted approval (access request and approval profile, re-evaluation); the Cedar
    attribute `context.approved` is set by the decision point alone, and a value sent by the caller is not looked at.
    """

    subject: Subject
    action: Action
    resource: Resource
    context: dict[str, Any] = {}


class EvaluationResponse(_Open):
    """AuthZEN 1.0, section 6.2. `context` is a DecisionContext."""

    decision: bool
    context: dict[str, JsonValue] = {}


class AccessRequest(Message):
    """How to ask a person to approve the denied request: POST a NewApproval to `endpoint` before `expires_at`."""

    endpoint: str
    expires_at: datetime


class DecisionContext(Message):
    """Why it was decided so. `reason` is one of `allowed`, `no_policy_permits`, `policy_forbids`, `constitution_forbids`,
    `approval_required`, `invalid_request`, `evaluation_error`, `no_active_bundle`, `emergency`, `not_recorded`."""

    evaluation_id: str
    evaluated_at: datetime
    reason: str
    detail: str
    policies: list[str] = Field(default=[], description="determining policies and guards")
    principles: list[str] = Field(default=[], description="principles that those policies stand for")
    bundle: str | None = None
    access_request: AccessRequest | None = Field(
        default=None, description="set exactly when reason is `approval_required`"
    )


class DecisionRecord(Message):
    """What goes into the log for one decision: no argument of the call in the clear."""

    id: str
    time: datetime
    decision: Literal["allow", "deny"]
    reason: str
    subject: str
    action: str
    resource_type: str
    request: Commitment = Field(description="commitment to the whole request; the opening stays in this service")
    bundle_hash: Sha256 | None
    determining_policies: list[str]
    principles: list[str]
    approval_id: str | None
    caller: str


# --- approvals -------------------------------------------------------------------------------------------------------


class DecisionDocument(Message):
    """A decision with the request that was decided, which the log holds only as a commitment. `salt` (hex) opens the commitment."""

    record: DecisionRecord
    request: EvaluationRequest
    salt: str


class NewApproval(Message):
    """Ask a person to approve one denied request, exactly as it was decided."""

    decision_id: str
    request: EvaluationRequest
    note: Annotated[str, Field(max_length=2000)] = ""


class ApprovalAnswer(Message):
    answer: Literal["granted", "refused"]
    reason: Annotated[str, Field(min_length=1, max_length=2000)]


class Approval(Message):
    """Bound to agent, action, resource, digest of the whole request, bundle and expiry; stale when any of them changes; good once."""

    id: str
    decision_id: str
    status: Literal["pending", "granted", "refused", "used", "expired"]
    subject: str
    action: str
    resource: str
    request: EvaluationRequest = Field(description="what the person is asked to approve, in full")
    request_digest: Sha256
    bundle_hash: Sha256
    note: str
    requested_by: str
    answered_by: str | None
    reason: str | None
    created_at: datetime
    expires_at: datetime

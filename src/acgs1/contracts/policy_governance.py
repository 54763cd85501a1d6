"""Boundary of the policy governance service (port 8005): votes, bundles, decisions, approvals."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from acgs1.contracts.common import Message, Sha256
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.events import Commitment
from acgs1.contracts.formal_verification import Certificate, PolicyText

# --- the vote --------------------------------------------------------------------------------------------------------


class NewMember(Message):
    """Register a voting member: the person's account and the weight the register gives them."""

    user_id: Annotated[str, Field(pattern=r"^usr_[0-9a-f-]{36}$")]
    weight: Annotated[int, Field(ge=1, le=2**53 - 1)]


class Member(Message):
    user_id: str
    wallet: str
    weight: int
    index: int


class ConstitutionToRatify(Message):
    """Put the founding constitution on the ledger and end the bootstrap."""

    constitution: Constitution


class LedgerReceipt(Message):
    signature: str
    constitution_hash: Sha256
    constitution_version: int


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


ProposalStatus = Literal["submitting", "open", "accepted", "rejected", "enacted", "cancelled"]


class NewProposal(Message):
    """Propose a bundle for a vote. The voting window is seconds from now."""

    bundle_hash: Sha256
    title: Annotated[str, Field(min_length=1, max_length=200)]
    voting_seconds: Annotated[int, Field(ge=1, le=30 * 86400)] = 3 * 86400


class Proposal(Message):
    id: str
    title: str
    bundle_hash: Sha256
    certificate_hash: Sha256
    status: ProposalStatus
    index: int | None
    address: str | None
    for_weight: int
    against_weight: int
    abstain_weight: int
    closes_at: datetime | None
    voting_seconds: int
    proposed_by: str
    signatures: dict[str, str] = Field(default={}, description="ledger step -> transaction signature")
    created_at: datetime


class NewEmergency(Message):
    """Stop something at once, for at most 72 hours: a policy set (`target`: its hash), an agent (`target`: its id), or every activation."""

    kind: Literal["suspend_policy", "freeze_activation", "revoke_agent"]
    target: Annotated[str, Field(max_length=80)] | None = None
    reason: Annotated[str, Field(min_length=1, max_length=2000)]
    seconds: Annotated[int, Field(ge=1, le=72 * 3600)]


class EmergencyReceipt(Message):
    index: int


class NewBallot(Message):
    choice: Literal["for", "against", "abstain"]


class Ballot(Message):
    proposal_id: str
    choice: Literal["for", "against", "abstain"]
    weight: int
    signature: str


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

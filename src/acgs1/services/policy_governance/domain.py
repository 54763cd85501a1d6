"""Decisions and their reasons; what an approval is bound to; what an emergency stops."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.constitutional_ai import difference
from acgs1.contracts.policy_governance import (
    AddPrinciple,
    Amendment,
    AmendPrinciple,
    AmendText,
    DecisionRecord,
    Emergency,
    EvaluationRequest,
    Member,
    Proposal,
    RetirePrinciple,
)
from acgs1.core.canonical import canonical_json
from acgs1.core.hashing import content_hash, sha256_hex, text_hash
from acgs1.services.policy_governance.errors import (
    AmendmentTooWide,
    BadEvaluation,
    LedgerConflict,
    NothingToChange,
)

APPROVAL_LIFETIME = timedelta(hours=1)
TRANSACTION_LIFETIME = timedelta(seconds=90)
"""After this a transaction that has not landed never will: its blockhash is good for 150 slots, about a minute."""
SERVER_CONTEXT = frozenset({"approved", "approval"})
"""Members of the context that only the decision point may fill: a caller's own are not looked at."""
EXPIRY_TOLERANCE = timedelta(seconds=60)
"""For so long after its end by our clock an action that no vote has confirmed is still obeyed: the ledger's clock counts and may
be behind ours, and as an emergency action can only forbid, to end it late is the safe side."""
LONGEST_NAME = 256
"""Characters of a subject, an action or a resource type: what an event takes as its subject."""
MOST_NESTED = 64
"""Levels of a request. What the serialisers could not write would spoil the group of decisions that it is recorded with."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the evaluator said: `policies` determined the outcome, `guards` are the constitution's own among them."""

    allowed: bool
    policies: tuple[str, ...]
    guards: tuple[str, ...]
    errors: tuple[str, ...]

    @property
    def reason(self) -> str:
        if self.allowed:
            return "allowed"
        if self.errors:
            return "evaluation_error"
        if self.guards:
            return "constitution_forbids"
        return "policy_forbids" if self.policies else "no_policy_permits"


@dataclass(frozen=True)
class Recorded:
    """A decision as the spool and the database keep it: the record for the log, and what opens its commitment."""

    record: DecisionRecord
    request: EvaluationRequest
    salt: bytes
    approvable: bool
    digest: str

    @cached_property
    def record_json(self) -> str:
        """Written once, for the spool and the database."""
        return self.record.model_dump_json()

    @cached_property
    def request_json(self) -> str:
        return self.request.model_dump_json()


@dataclass(frozen=True, slots=True)
class Emergencies:
    """Emergency actions in effect, as the ledger has them. An agent is named by the SHA-256 of its id."""

    suspended: frozenset[str] = frozenset()
    revoked: frozenset[str] = frozenset()
    frozen: bool = False
    until: datetime | None = None
    """When the first of them ends by itself."""

    def stops(self, policies_hash: str, subject_id: str) -> str | None:
        """Why nothing may be allowed to this subject now, or None."""
        if policies_hash in self.suspended:
            return "the active policies are suspended by an emergency action"
        if text_hash(subject_id) in self.revoked:
            return "the agent is revoked by an emergency action"
        return None


@dataclass(frozen=True, slots=True)
class Happened:
    """One event of the program, where it happened. `kind` is the program's name for it, `data` its fields (hashes in hex)."""

    signature: str
    slot: int
    position: int
    kind: str
    data: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The same whenever the event is read, so that the log takes it once."""
        return f"evt_{sha256_hex(f'{self.signature}:{self.position}'.encode())[:48]}"


@dataclass(frozen=True, slots=True)
class Chapter:
    """Events behind a cursor, whole transactions only, and the cursor behind them."""

    events: tuple[Happened, ...]
    cursor: str | None
    caught_up: bool


@dataclass(frozen=True, slots=True)
class Position:
    """How far the ledger has been followed, and the constitution in force there."""

    cursor: str | None = None
    constitution_hash: str | None = None
    constitution_version: int = 0
    signature: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The ledger's accounts. A proposal is one of the stored ones as the account has it, or one that is not stored."""

    constitution_hash: str | None
    constitution_version: int
    members: tuple[Member, ...]
    proposals: tuple[Mapping[str, Any], ...]
    emergencies: tuple[Emergency, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """Where a proposal landed."""

    index: int
    address: str
    signature: str


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A transaction for a wallet to sign: `message` is what is signed, `transaction` the wire form in base64."""

    transaction: str
    message: bytes
    last_valid_block_height: int


def amendment(old: Constitution, new: Constitution, register: Mapping[str, int]) -> Amendment:
    """What the ledger would vote on to replace `old` by `new`. `register`: principles in force there, content hash -> index.

    One subject at a time, so that the register holds every principle in force and people know what they vote on. Raises
    NothingToChange, AmendmentTooWide, LedgerConflict for a principle that the register does not have.
    """
    change = difference(old, new)
    subjects = [f"{c.change} `{c.principle.id}`" for c in change.principles] + list(change.text)
    if not subjects:
        raise NothingToChange("the draft is the constitution in force")
    if len(change.principles) > 1 or (change.principles and change.text):
        raise AmendmentTooWide(f"this draft would {', '.join(subjects)}; make a draft and a proposal of each")
    if not change.principles:
        return AmendText(constitution_hash=new.hash)
    principle = change.principles[0].principle
    digest = content_hash(principle.model_dump(mode="json"))
    if change.principles[0].change == "add":
        return AddPrinciple(
            principle_id=principle.id, title=principle.title, content_hash=digest, constitution_hash=new.hash
        )
    before = next(p for p in old.principles if p.id == principle.id)
    index = register.get(content_hash(before.model_dump(mode="json")))
    if index is None:
        raise LedgerConflict(f"principle `{principle.id}` is in force and not in the ledger's register")
    if change.principles[0].change == "retire":
        return RetirePrinciple(principle_id=principle.id, index=index, constitution_hash=new.hash)
    return AmendPrinciple(
        principle_id=principle.id, index=index, title=principle.title, content_hash=digest, constitution_hash=new.hash
    )


STEPS = {"unsigned": 0, "submitting": 1, "open": 2, "accepted": 3, "rejected": 3, "cancelled": 3, "enacted": 4}
"""A proposal only ever goes up these steps, also where its history is read a second time."""


def moved(proposal: Proposal, status: str, changes: Mapping[str, Any]) -> Proposal:
    """The proposal with `changes` and at `status`, unless it is further already."""
    if STEPS[status] < STEPS[proposal.status] or (
        STEPS[status] == STEPS[proposal.status] and status != proposal.status
    ):
        return proposal
    return proposal.model_copy(update={**changes, "status": status})


def is_acting(action: Emergency, now: datetime) -> bool:
    """Whether the action is to be obeyed at `now`: it has not ended, and its time is not over, whether or not the ledger can be asked."""
    return action.status in {"active", "confirmed"} and (action.expires_at is None or now < _end(action.expires_at))


def _end(expires_at: datetime) -> datetime:
    return expires_at + EXPIRY_TOLERANCE


def over(action: Emergency, now: datetime) -> Emergency:
    """An action that has been found to have no effect any more: `expired` where its time was over at `now`, else `ended`."""
    expired = action.status == "active" and action.expires_at is not None and action.expires_at <= now
    return action.model_copy(update={"status": "expired" if expired else "ended"})


def in_effect(actions: Sequence[Emergency], now: datetime) -> Emergencies:
    """What the emergency actions stop at `now`."""
    acting = [action for action in actions if is_acting(action, now)]
    return Emergencies(
        suspended=frozenset(a.target for a in acting if a.kind == "suspend_policy" and a.target),
        revoked=frozenset(a.target for a in acting if a.kind == "revoke_agent" and a.target),
        frozen=any(a.kind == "freeze_activation" for a in acting),
        until=min((_end(a.expires_at) for a in acting if a.expires_at is not None), default=None),
    )


def request_digest(request: EvaluationRequest) -> str:
    """SHA-256 of the request as decided, without what the decision point fills in: what an approval is bound to.

    Raises BadEvaluation for a request that has no canonical form: nobody could ever check a commitment to it.
    """
    return _digest(request, _canonical(request))


def digest_and_commitment(salt: bytes, request: EvaluationRequest) -> tuple[str, str]:
    """`request_digest`, and `sha256(salt || jcs(request))`: what the log holds of a request (see `contracts.events.Commitment`)."""
    canonical = _canonical(request)
    return _digest(request, canonical), hashlib.sha256(salt + canonical).hexdigest()


def _digest(request: EvaluationRequest, canonical: bytes) -> str:
    if SERVER_CONTEXT.isdisjoint(request.context):
        return sha256_hex(canonical)
    context = {name: value for name, value in request.context.items() if name not in SERVER_CONTEXT}
    return sha256_hex(_canonical(request.model_copy(update={"context": context})))


def _canonical(request: EvaluationRequest) -> bytes:
    try:
        # Not in JSON mode, which would write `null` for NaN and so commit to another request.
        return canonical_json(request.model_dump(), levels=MOST_NESTED)
    except (ValueError, RecursionError) as error:
        raise BadEvaluation(f"the request has no canonical form: {error}") from None

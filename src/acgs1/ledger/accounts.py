"""The program's accounts as immutable values: hashes in lower-case hex, addresses in base58, times in Unix seconds.

What each field means is written in the program's interface description (`artifacts/`), from which they are decoded.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from solders.pubkey import Pubkey

from acgs1.ledger.errors import snake_case
from acgs1.ledger.json_values import as_array

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Governance:
    """The one governance account: authorities, parameters, the constitution in force, counters."""

    council: str
    emergency: str
    log: str
    verifier: str
    pending_council: str
    pending_emergency: str
    pending_log: str
    pending_verifier: str
    constitution_hash: str
    constitution_version: int
    ratified: bool
    total_weight: int
    active_members: int
    member_slots: int
    principle_count: int
    active_principles: int
    proposal_count: int
    open_proposals: int
    emergency_count: int
    threshold_bp: int
    quorum_bp: int
    voting_period: int
    vote_change_allowed: bool
    frozen_until: int


@dataclass(frozen=True, slots=True)
class Principle:
    index: int
    content_hash: str
    title: str
    version: int
    constitution_version: int
    status: str
    updated_at: int


@dataclass(frozen=True, slots=True)
class Member:
    """A voting member. `weights` are newest first, each counting from the proposal index at the same place of `since`."""

    wallet: str
    slot: int
    active: bool
    weights: tuple[int, ...]
    since: tuple[int, ...]
    changed_at: tuple[int, ...]

    @property
    def weight(self) -> int:
        """The present weight; 0 once removed."""
        return self.weights[0]

    def weight_for(self, proposal: int) -> int:
        """The weight that counts in the proposal of that index."""
        for weight, since in zip(self.weights, self.since, strict=True):
            if proposal >= since:
                return weight
        return 0


@dataclass(frozen=True, slots=True)
class Proposal:
    """`kind`: policy, principle, membership, parameters, emergency_ratification, constitution.
    `status`: active, accepted, rejected, enacted, cancelled."""

    address: str
    index: int
    kind: str
    status: str
    content_hash: str
    certificate_hash: str
    proposer: str
    votes_for: int
    votes_against: int
    votes_abstain: int
    total_weight: int
    threshold_bp: int
    quorum_bp: int
    starts_at: int
    ends_at: int
    constitution_version: int
    vote_change_allowed: bool
    ballots: bytes

    def choice(self, slot: int) -> str | None:
        """How the member with that ballot slot voted; None for no vote, and for every slot once it is finalized."""
        if slot // 4 >= len(self.ballots):
            return None
        return (None, "for", "against", "abstain")[self.ballots[slot // 4] >> slot % 4 * 2 & 3]


@dataclass(frozen=True, slots=True)
class Attestation:
    certificate_hash: str
    content_hash: str
    constitution_version: int
    attested_at: int


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy set that a vote put in force. Suspended while the time is before `suspended_until`."""

    content_hash: str
    proposal: int
    constitution_version: int
    suspended_until: int


@dataclass(frozen=True, slots=True)
class Emergency:
    """`kind`: suspend_policy, freeze_activation, revoke_agent. `status`: active, confirmed, ended."""

    address: str
    index: int
    kind: str
    status: str
    target: str
    issuer: str
    issued_at: int
    expires_at: int

    def in_effect(self, now: int) -> bool:
        """Whether it has effect at `now` (Unix seconds)."""
        return self.status != "ended" and now < self.expires_at


@dataclass(frozen=True, slots=True)
class LogAnchor:
    """The newest root of the transparency log that stands on the ledger; `tree_size` 0 before the first."""

    tree_size: int
    root: str
    anchored_at: int
    count: int


def build(kind: type[T], fields: Mapping[str, Any], **extra: object) -> T:
    """A value of the dataclass `kind` from decoded `fields`; more fields than it has are left out."""
    values: dict[str, object] = dict(extra)
    for field in dataclasses.fields(kind):  # pyright: ignore[reportArgumentType]
        if field.name not in values:
            values[field.name] = _plain(field.name, field.type, fields[field.name])
    return kind(**values)


def _plain(name: str, declared: object, value: Any) -> object:
    if isinstance(value, Pubkey):
        return str(value)
    if isinstance(value, bytes) and declared is str:
        return value.rstrip(b"\0").decode() if name == "title" else value.hex()
    if (items := as_array(value)) is not None:
        return tuple(items)
    if isinstance(value, str):
        return snake_case(value)  # an enum's variant
    if declared is bool:
        return bool(value)
    return value

"""The program's events as immutable values, read from the logs of transactions.

An event is an Anchor event: `Program data: <base64>` in the log of a transaction. The log is read with a stack of the programs that are
running, so that another program in the same transaction cannot speak in ours' name.
"""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from acgs1.ledger.accounts import build
from acgs1.ledger.idl import Idl

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Initialized:
    council: str
    emergency: str
    log: str
    verifier: str
    constitution_hash: str
    voting_period: int
    threshold_bp: int
    quorum_bp: int
    vote_change_allowed: bool


@dataclass(frozen=True, slots=True)
class Ratified:
    constitution_hash: str
    constitution_version: int
    total_weight: int
    at: int


@dataclass(frozen=True, slots=True)
class PrincipleChanged:
    index: int
    version: int
    status: str
    content_hash: str
    constitution_hash: str
    constitution_version: int
    at: int


@dataclass(frozen=True, slots=True)
class ConstitutionAmended:
    constitution_hash: str
    constitution_version: int
    proposal: int
    at: int


@dataclass(frozen=True, slots=True)
class MemberChanged:
    wallet: str
    slot: int
    weight: int
    total_weight: int
    from_proposal: int
    at: int


@dataclass(frozen=True, slots=True)
class ParametersChanged:
    voting_period: int
    threshold_bp: int
    quorum_bp: int
    vote_change_allowed: bool
    at: int


@dataclass(frozen=True, slots=True)
class ProposalCreated:
    index: int
    kind: str
    proposer: str
    content_hash: str
    certificate_hash: str
    constitution_version: int
    total_weight: int
    starts_at: int
    ends_at: int


@dataclass(frozen=True, slots=True)
class VoteCast:
    proposal: int
    voter: str
    choice: str
    changed: bool
    weight: int
    votes_for: int
    votes_against: int
    votes_abstain: int
    at: int


@dataclass(frozen=True, slots=True)
class ProposalFinalized:
    index: int
    kind: str
    status: str
    content_hash: str
    votes_for: int
    votes_against: int
    votes_abstain: int
    total_weight: int
    quorum_reached: bool
    early: bool
    at: int


@dataclass(frozen=True, slots=True)
class ProposalEnacted:
    index: int
    kind: str
    content_hash: str
    at: int


@dataclass(frozen=True, slots=True)
class PolicyEnacted:
    content_hash: str
    certificate_hash: str
    constitution_version: int
    proposal: int
    at: int


@dataclass(frozen=True, slots=True)
class ProposalCancelled:
    index: int
    at: int


@dataclass(frozen=True, slots=True)
class ProposalClosed:
    index: int
    status: str
    lamports: int


@dataclass(frozen=True, slots=True)
class Attested:
    certificate_hash: str
    content_hash: str
    constitution_version: int
    verifier: str
    at: int


@dataclass(frozen=True, slots=True)
class AttestationRevoked:
    certificate_hash: str
    content_hash: str
    constitution_version: int
    at: int


@dataclass(frozen=True, slots=True)
class EmergencyTaken:
    index: int
    kind: str
    target: str
    reason_hash: str
    issuer: str
    expires_at: int
    at: int


@dataclass(frozen=True, slots=True)
class EmergencyResolved:
    index: int
    kind: str
    status: str
    target: str
    expires_at: int
    at: int


@dataclass(frozen=True, slots=True)
class EmergencyClosed:
    index: int
    lamports: int


@dataclass(frozen=True, slots=True)
class RootAnchored:
    tree_size: int
    root: str
    count: int
    at: int


@dataclass(frozen=True, slots=True)
class AuthorityOffered:
    role: str
    holder: str
    offered_to: str


@dataclass(frozen=True, slots=True)
class AuthorityAccepted:
    role: str
    previous: str
    holder: str


@dataclass(frozen=True, slots=True)
class LogTruncated:
    """Not an event of the program's: the transaction's log was cut where it got too long, so events may be missing.

    Whoever keeps a picture of the ledger reads the accounts anew.
    """


EVENTS: Final[dict[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        Initialized, Ratified, PrincipleChanged, ConstitutionAmended, MemberChanged, ParametersChanged,
        ProposalCreated, VoteCast, ProposalFinalized, ProposalEnacted, PolicyEnacted, ProposalCancelled,
        ProposalClosed, Attested, AttestationRevoked, EmergencyTaken, EmergencyResolved, EmergencyClosed,
        RootAnchored, AuthorityOffered, AuthorityAccepted,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """One event where it happened; `signature` and `position` name it for ever.

    A transaction's events come together, in order; `position` counts them from 0. `body` is one of the classes above.
    """

    signature: str
    slot: int
    position: int
    body: Any

    @property
    def cursor(self) -> str:
        """Resumes after the whole transaction: keep that of the last one whose events are all handled."""
        return f"{self.slot}:{self.signature}"


_INVOKE: Final = re.compile(r"^Program (\S+) invoke \[(\d+)\]$")
_RETURN: Final = re.compile(r"^Program (\S+) (success|failed.*)$")
_DATA: Final = "Program data: "
# What Agave writes in place of the rest (LogCollector, 10,000 bytes for a transaction).
_TRUNCATED: Final = "Log truncated"


# About the making of an address, and nothing that anybody follows.
_LEFT_OUT: Final = "BumpsExcluded"


def events_in_logs(idl: Idl, program: str, logs: Iterable[str]) -> list[Any]:
    """The events that `program` itself emitted, in order; `LogTruncated` at the end where the log was cut. Without `BumpsExcluded`.

    An event that this release does not know is logged and left out.
    """
    stack: list[str] = []
    found: list[Any] = []
    for line in logs:
        if line.startswith(_DATA):
            if stack and stack[-1] == program:
                # sol_log_data writes its slices apart by spaces; an Anchor event is one slice.
                decoded = idl.decode_event(base64.b64decode(line.removeprefix(_DATA)))
                kind = None if decoded is None else EVENTS.get(decoded[0])
                if decoded is not None and decoded[0] == _LEFT_OUT:
                    continue
                if decoded is None or kind is None:
                    _log.warning("unknown event on the ledger", event=decoded[0] if decoded else line)
                else:
                    found.append(build(kind, decoded[1]))
        elif line == _TRUNCATED:
            found.append(LogTruncated())
        elif match := _INVOKE.match(line):
            stack.append(match[1])
        elif (match := _RETURN.match(line)) and stack and stack[-1] == match[1]:
            stack.pop()
    return found

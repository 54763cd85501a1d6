"""Decisions and their reasons; what an approval is bound to; what an emergency stops."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from acgs1.contracts.policy_governance import DecisionRecord, EvaluationRequest
from acgs1.core.canonical import canonical_json
from acgs1.core.hashing import sha256_hex, text_hash
from acgs1.services.policy_governance.errors import BadEvaluation

APPROVAL_LIFETIME = timedelta(hours=1)
SERVER_CONTEXT = frozenset({"approved", "approval"})
"""Members of the context that only the decision point may fill: a caller's own are not looked at."""
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


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision as the spool and the database keep it: the record for the log, and what opens its commitment."""

    record: DecisionRecord
    request: EvaluationRequest
    salt: bytes
    approvable: bool
    digest: str


@dataclass(frozen=True, slots=True)
class Emergencies:
    """Emergency actions in effect, as the ledger has them. An agent is named by the SHA-256 of its id."""

    suspended: frozenset[str] = frozenset()
    revoked: frozenset[str] = frozenset()
    frozen: bool = False

    def stops(self, policies_hash: str, subject_id: str) -> str | None:
        """Why nothing may be allowed to this subject now, or None."""
        if policies_hash in self.suspended:
            return "the active policies are suspended by an emergency action"
        if text_hash(subject_id) in self.revoked:
            return "the agent is revoked by an emergency action"
        return None


def request_digest(request: EvaluationRequest) -> str:
    """SHA-256 of the request as decided, without what the decision point fills in: what an approval is bound to.

    Raises BadEvaluation for a request that has no canonical form: nobody could ever check a commitment to it.
    """
    context = {name: value for name, value in request.context.items() if name not in SERVER_CONTEXT}
    return sha256_hex(_canonical(request.model_copy(update={"context": context})))


def commitment(salt: bytes, request: EvaluationRequest) -> str:
    """`sha256(salt || jcs(request))`: what the log holds of a request (see `contracts.events.Commitment`)."""
    return hashlib.sha256(salt + _canonical(request)).hexdigest()


def _canonical(request: EvaluationRequest) -> bytes:
    try:
        # Not in JSON mode, which would write `null` for NaN and so commit to another request.
        document = request.model_dump()
        flat = _is_flat(document, MOST_NESTED)
        canonical = canonical_json(document) if flat else b""
    except (ValueError, RecursionError) as error:
        raise BadEvaluation(f"the request has no canonical form: {error}") from None
    if not flat:
        raise BadEvaluation(f"the request has no canonical form: it is nested deeper than {MOST_NESTED} levels")
    return canonical


def _is_flat(value: object, levels: int) -> bool:
    """Whether `value` nests at most `levels` deep."""
    match value:
        case dict():
            return levels > 0 and all(_is_flat(item, levels - 1) for item in cast("dict[str, object]", value).values())
        case list():
            return levels > 0 and all(_is_flat(item, levels - 1) for item in cast("list[object]", value))
        case _:
            return True

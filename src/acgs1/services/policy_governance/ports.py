"""What the use cases need from outside."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Literal, Protocol

from acgs1.contracts.auth import User
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.events import Event
from acgs1.contracts.formal_verification import Certificate
from acgs1.contracts.policy_governance import (
    Approval,
    Ballot,
    Bundle,
    BundleStatus,
    EvaluationRequest,
    GovernanceState,
    LedgerReceipt,
    Member,
    Proposal,
)
from acgs1.services.policy_governance.domain import Emergencies, Evaluated, Recorded

Choice = Literal["for", "against", "abstain"]


class Records(Protocol):
    """This service's state, inside one transaction."""

    async def add_member(self, member: Member) -> None: ...
    async def member(self, user_id: str) -> Member | None: ...
    async def members(self) -> list[Member]: ...
    async def keep_bundle(self, bundle: Bundle, certificate: Certificate) -> None: ...
    async def bundle(self, bundle_hash: str) -> tuple[Bundle, Certificate] | None: ...
    async def active_bundle(self) -> tuple[Bundle, Certificate] | None: ...
    async def bundles(self, cursor: str | None, limit: int) -> tuple[list[Bundle], str | None]: ...
    async def set_bundle_status(self, bundle_hash: str, status: BundleStatus, at: datetime | None = None) -> None: ...
    async def keep_proposal(self, proposal: Proposal) -> None: ...
    async def proposal(self, proposal_id: str) -> Proposal | None: ...
    async def proposals(self, cursor: str | None, limit: int) -> tuple[list[Proposal], str | None]: ...
    async def unfinished_proposals(self) -> list[Proposal]: ...
    async def keep_ballot(self, ballot: Ballot, user_id: str) -> None: ...
    async def decision(self, decision_id: str) -> Recorded | None: ...
    async def decisions(self, cursor: str | None, limit: int) -> tuple[list[Recorded], str | None]: ...
    async def keep_approval(self, approval: Approval) -> None: ...
    async def approval(self, approval_id: str) -> Approval | None: ...
    async def approvals(
        self, status: str | None, cursor: str | None, limit: int
    ) -> tuple[list[Approval], str | None]: ...
    async def use_approval(self, approval_id: str) -> bool:
        """Turn a granted approval into a used one; False when it is not granted (any more)."""
        ...

    async def record(self, event: Event) -> None: ...


class Governance(Protocol):
    """Transactions over this service's state."""

    def transaction(self) -> AbstractAsyncContextManager[Records]: ...
    def reading(self) -> AbstractAsyncContextManager[Records]: ...


class Ledger(Protocol):
    """`quantumagi_core`. Every method raises DependencyUnavailable or the ledger's own errors."""

    async def state(self) -> GovernanceState: ...
    async def ratify(self, constitution: Constitution) -> LedgerReceipt:
        """Idempotent; raises LedgerConflict when another constitution is ratified."""
        ...

    async def register_member(self, user_id: str, weight: int) -> Member:
        """Idempotent per person: makes the wallet when there is none."""
        ...

    async def propose(self, proposal: Proposal, content_hash: str, proposer: str, seconds: int) -> Proposal:
        """Open the vote, or find it when it was opened before a crash. The proposal with its place on the ledger."""
        ...

    async def follow(self, proposal: Proposal) -> Proposal:
        """The proposal as the ledger has it now."""
        ...

    async def vote(self, user_id: str, proposal: Proposal, choice: Choice) -> str: ...
    async def finalize(self, proposal: Proposal) -> Proposal: ...
    async def enact(self, proposal: Proposal) -> Proposal: ...
    async def is_enacted(self, policies_hash: str) -> bool: ...
    async def emergencies(self, now: datetime) -> Emergencies: ...
    async def emergency(self, kind: str, target: str | None, reason: str, seconds: int) -> int: ...


class Verifier(Protocol):
    """Formal verification."""

    async def check(self, certificate: Certificate) -> None:
        """Raises CertificateRejected unless the certificate bears the verifier's signature."""
        ...

    async def attest(self, certificate_hash: str) -> str:
        """Have the verifier attest the certificate on the ledger; returns the transaction's signature. Idempotent."""
        ...


class People(Protocol):
    """Auth."""

    async def user(self, user_id: str) -> User | None: ...


class Evaluator(Protocol):
    """One bundle, loaded. Answers in microseconds and holds no connection to anything."""

    bundle: Bundle

    def evaluate(self, request: EvaluationRequest, *, approved: bool) -> Evaluated:
        """Raises BadEvaluation when the request does not fit the schema."""
        ...

    def asks_for_approval(self, action: str) -> bool:
        """Whether the schema gives this action's context the attribute `approved`."""
        ...

    def principles(self, policies: Sequence[str]) -> list[str]:
        """The principles that these policies and guards stand for."""
        ...


class Loader(Protocol):
    """Makes evaluators. CPU-bound: called off the event loop."""

    def load(self, bundle: Bundle) -> Evaluator:
        """Raises CertificateRejected for a bundle that the kernel does not take."""
        ...


class Sealer(Protocol):
    """Signs bundles."""

    def seal(self, digest: str) -> str: ...
    def is_sealed(self, digest: str, signature: str) -> bool: ...


class Spool(Protocol):
    """The durable record of decisions that are not in the log yet."""

    async def append(self, decision: Recorded) -> None:
        """Returns once the record would survive a power cut; raises OSError, or DomainError when too many wait, when it would not."""
        ...

    def pending(self, decision_id: str) -> Recorded | None: ...

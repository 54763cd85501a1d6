"""What the use cases need from outside."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from acgs1.contracts.auth import Identity
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.events import Event
from acgs1.contracts.formal_verification import Certificate, Obligation, VerificationProgress, VerificationReport
from acgs1.contracts.governance_synthesis import (
    Draft,
    DraftSummary,
    NewPolicyCreation,
    Strategy,
    WorkflowProblem,
    WorkflowStatus,
    WorkflowStep,
)
from acgs1.contracts.policy_governance import Bundle, NewBundle, NewProposal, Proposal
from acgs1.services.governance_synthesis.domain.drafting import PolicySetDraft
from acgs1.services.governance_synthesis.domain.repair import Repaired


class Records(Protocol):
    """The drafts, inside one transaction. A draft is never changed."""

    async def add(self, draft: Draft, constitution: Constitution) -> None: ...
    async def get(self, draft_id: str) -> tuple[Draft, Constitution] | None: ...
    async def page(self, cursor: str | None, limit: int) -> tuple[list[DraftSummary], str | None]: ...
    async def record(self, event: Event) -> None: ...


class Drafts(Protocol):
    """Transactions over the drafts."""

    def transaction(self) -> AbstractAsyncContextManager[Records]: ...
    def reading(self) -> AbstractAsyncContextManager[Records]: ...


class Drafter(Protocol):
    """Whoever turns principles into policies: the grammar, or a language model behind the same checks."""

    @property
    def author(self) -> str:
        """Goes on record with each draft."""
        ...

    async def draft(self, constitution: Constitution, strategy: Strategy) -> PolicySetDraft:
        """Policies that need not even parse; the service checks them. Raises SchemaRefused."""
        ...


class Cedar(Protocol):
    """The kernel's parser, validator and evaluator. CPU work off the event loop."""

    async def checked(self, schema: str, policies: str) -> str:
        """The policies in canonical layout. Raises PoliciesRefused with the place of every fault."""
        ...

    async def repair(self, constitution: Constitution, policies: str, obligations: list[Obligation]) -> Repaired: ...


# --- policy creation ---


class Waiting(Exception):
    """Raised by a step's work: it cannot be done yet, and nothing is wrong. The message says what it waits for."""


@dataclass(frozen=True, slots=True)
class Run:
    """A workflow as it is kept. `outcome` is set exactly when it has completed, `problem` exactly when it has failed."""

    id: str
    key: str
    request: NewPolicyCreation
    starter: Identity
    status: WorkflowStatus
    step: str | None
    waiting_for: str | None
    outcome: str | None
    problem: WorkflowProblem | None
    started_at: datetime
    finished_at: datetime | None
    steps: list[WorkflowStep] | None = None


class RunRecords(Protocol):
    """The workflows, inside one transaction. What changes a workflow returns whether it was in a state to be changed so."""

    async def add(self, run: Run) -> None:
        """Nobody owns it yet."""
        ...

    async def get(self, run_id: str) -> Run | None: ...
    async def by_key(self, starter_id: str, key: str) -> Run | None: ...
    async def page(
        self, status: WorkflowStatus | None, cursor: str | None, limit: int
    ) -> tuple[list[Run], str | None]: ...
    async def enter(self, run_id: str, step: str, owner: str, lease_until: datetime) -> bool: ...
    async def note(self, run_id: str, waiting_for: str) -> bool: ...
    async def complete(self, run_id: str, at: datetime, outcome: str, steps: list[WorkflowStep]) -> bool: ...
    async def fail(self, run_id: str, at: datetime, problem: WorkflowProblem) -> bool: ...
    async def cancel(self, run_id: str, at: datetime) -> bool: ...
    async def reopen(self, run_id: str) -> bool: ...
    async def renew(self, run_ids: Iterable[str], owner: str, lease_until: datetime) -> None: ...
    async def lapsed(self, now: datetime) -> list[str]:
        """Running ones whose owner has not renewed its lease, or that have none."""
        ...

    async def claim(self, run_id: str, owner: str, now: datetime, lease_until: datetime) -> bool:
        """Of several that try at once, one."""
        ...

    async def release(self, owner: str) -> None: ...
    async def untold(self) -> list[Run]:
        """Those that have ended and of which the monitor does not know how."""
        ...

    async def told(self, run_id: str, status: WorkflowStatus) -> None: ...
    async def record(self, event: Event) -> None: ...


class Runs(Protocol):
    """Transactions over the workflows."""

    def transaction(self) -> AbstractAsyncContextManager[RunRecords]: ...
    def reading(self) -> AbstractAsyncContextManager[RunRecords]: ...


@dataclass(frozen=True, slots=True)
class Logged:
    """An event's place in the log, and the size of the signed tree in which its inclusion was proved."""

    event_id: str
    leaf_index: int
    tree_size: int


class Parts(Protocol):
    """The other parts of the system, as policy creation needs them. `key` makes a repeat harmless; `by` is the person in whose name it is
    done: the other part asks auth for their roles at that moment."""

    async def in_force(self) -> Constitution: ...
    async def constitution(self, digest: str) -> Constitution: ...
    async def verify(self, policies: str, constitution: Constitution, key: str) -> str: ...
    async def verification(self, verification_id: str) -> VerificationReport | VerificationProgress: ...
    async def certificate(self, digest: str) -> Certificate: ...
    async def build(self, bundle: NewBundle, by: str, key: str) -> Bundle: ...
    async def bundle(self, digest: str) -> Bundle: ...
    async def proposal_of(self, bundle_hash: str) -> Proposal | None:
        """The newest proposal of the bundle that is neither rejected nor cancelled."""
        ...

    async def propose(self, proposal: NewProposal, by: str, key: str) -> Proposal: ...
    async def proposal(self, proposal_id: str) -> Proposal: ...
    async def finalize(self, proposal_id: str) -> Proposal: ...
    async def activate(self, bundle_hash: str, by: str) -> Bundle: ...
    async def logged(self, kind: str, subject: str, since: datetime) -> Logged | None:
        """The newest event of that type about `subject` since then, with its inclusion checked; None while the log has none."""
        ...


class Monitor(Protocol):
    """Hears of workflows. Repeats are harmless."""

    def running(self, run_id: str) -> None:
        """It is carried out here from now on. Never waits."""
        ...

    async def ended(self, run: Run) -> None: ...

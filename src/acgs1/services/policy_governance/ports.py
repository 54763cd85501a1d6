"""What the use cases need from outside."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from acgs1.contracts.auth import User
from acgs1.contracts.constitution import Constitution
from acgs1.contracts.events import Event
from acgs1.contracts.formal_verification import Certificate
from acgs1.contracts.policy_governance import (
    Approval,
    Ballot,
    Bundle,
    BundleStatus,
    Change,
    Choice,
    Emergency,
    EvaluationRequest,
    GovernanceState,
    LedgerReceipt,
    Member,
    Proposal,
    WalletTransaction,
)
from acgs1.services.policy_governance.domain import (
    Chapter,
    Emergencies,
    Evaluated,
    Opened,
    Position,
    Recorded,
    Snapshot,
    Unsigned,
)


class Records(Protocol):
    """This service's state, inside one transaction."""

    async def link_wallet(self, wallet: str, user_id: str, *, own: bool) -> None:
        """Say whose wallet it is, before the ledger knows it."""
        ...

    async def owner(self, wallet: str) -> str | None: ...
    async def keep_member(self, wallet: str, index: int, weight: int) -> None: ...
    async def member(self, user_id: str) -> Member | None:
        """The person as a member with weight."""
        ...

    async def member_with(self, wallet: str) -> Member | None:
        """Whoever has that wallet, also once removed."""
        ...

    async def members(self, cursor: str | None, limit: int) -> tuple[list[Member], str | None]: ...
    async def position(self, *, lock: bool = False) -> Position:
        """`lock`: no other transaction changes it until this one has ended."""
        ...

    async def keep_position(self, position: Position) -> None: ...
    async def keep_emergency(self, action: Emergency) -> None: ...
    async def emergencies(self, *, acting: bool = False) -> list[Emergency]: ...
    async def emergency_page(self, cursor: str | None, limit: int) -> tuple[list[Emergency], str | None]: ...
    async def keep_constitution(self, constitution: Constitution) -> None: ...
    async def constitution(self, constitution_hash: str) -> Constitution | None: ...
    async def keep_wallet_transaction(
        self, transaction: WalletTransaction, message: bytes, signed: bytes | None
    ) -> None: ...
    async def wallet_transaction(self, transaction_id: str) -> tuple[WalletTransaction, bytes, bytes | None] | None: ...
    async def keep_bundle(self, bundle: Bundle, certificate: Certificate) -> None: ...
    async def bundle(self, bundle_hash: str) -> tuple[Bundle, Certificate] | None: ...
    async def active(self) -> tuple[str, str] | None:
        """The hashes of the active bundle and of the constitution it was proved against."""
        ...

    async def active_bundle(self) -> tuple[Bundle, Certificate] | None: ...
    async def bundles(self, cursor: str | None, limit: int) -> tuple[list[Bundle], str | None]: ...
    async def set_bundle_status(self, bundle_hash: str, status: BundleStatus, at: datetime | None = None) -> None: ...
    async def keep_proposal(self, proposal: Proposal) -> None: ...
    async def proposal(self, proposal_id: str) -> Proposal | None: ...
    async def proposal_at(self, index: int) -> Proposal | None: ...
    async def proposals(self, cursor: str | None, limit: int) -> tuple[list[Proposal], str | None]: ...
    async def proposals_with(self, *statuses: str) -> list[Proposal]: ...
    async def bundle_proved_by(self, certificate_hash: str) -> Bundle | None: ...
    async def keep_ballot(self, ballot: Ballot, wallet: str) -> None: ...
    async def ballot(self, proposal_id: str, wallet: str) -> Ballot | None: ...
    async def ballot_page(
        self, proposal_id: str, cursor: str | None, limit: int
    ) -> tuple[list[Ballot], str | None]: ...
    async def decision(self, decision_id: str) -> Recorded | None: ...
    async def decisions(self, cursor: str | None, limit: int) -> tuple[list[Recorded], str | None]: ...
    async def keep_approval(self, approval: Approval) -> None: ...
    async def approval(self, approval_id: str) -> Approval | None: ...
    async def approvals(
        self, status: str | None, cursor: str | None, limit: int, now: datetime
    ) -> tuple[list[Approval], str | None]: ...
    async def use_approval(self, approval_id: str) -> bool:
        """Turn a granted approval into a used one; False when it is not granted (any more)."""
        ...

    async def record(self, event: Event) -> None: ...
    async def record_once(self, event: Event) -> None: ...


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

    async def events(self, cursor: str | None) -> Chapter:
        """What happened behind `cursor`. Raises CursorLost where the ledger does not know it."""
        ...

    async def snapshot(self, cursor: str | None) -> Snapshot:
        """The accounts of one moment, no older than what has been told up to `cursor`."""
        ...

    async def principles(self) -> dict[str, int]:
        """The principles in the register that are not retired: content hash -> index."""
        ...

    def wallet_of(self, user_id: str) -> str:
        """The address of the wallet that is kept here for the person; made when there is none."""
        ...

    def check_wallet(self, address: str) -> None:
        """Raises InvalidWallet unless a wallet can sign for the address."""
        ...

    async def register_member(self, wallet: str, weight: int) -> Member:
        """In the bootstrap. Idempotent per wallet."""
        ...

    def content_of(self, change: Change) -> str:
        """The content hash under which the ledger votes on `change`."""
        ...

    async def find(self, proposal: Proposal) -> Opened | None:
        """Where the proposal landed, if it has."""
        ...

    async def propose(self, proposal: Proposal) -> Opened:
        """Open the vote from the wallet kept here, or find it when it was opened before a crash."""
        ...

    async def vote(self, user_id: str, proposal: Proposal, choice: Choice) -> str: ...
    async def finalize(self, proposal: Proposal) -> None: ...
    async def enact(self, proposal: Proposal) -> str:
        """Carry out a decided proposal; returns the transaction's signature."""
        ...

    async def cancel(self, user_id: str, proposal: Proposal) -> None: ...
    async def close(self, user_id: str, proposal: Proposal) -> None: ...
    async def unsigned(self, act: str, wallet: str, proposal: Proposal, choice: Choice | None) -> Unsigned:
        """A transaction that the wallet is to sign; the fee is paid here."""
        ...

    def countersign(self, message: bytes, wallet: str, transaction: str) -> bytes:
        """The transaction with the wallet's and our own signature. Raises TransactionAltered, WrongSigner."""
        ...

    async def land(self, signed: bytes, last_valid_block_height: int) -> str:
        """Land a signed transaction, or recognise that it has landed; its signature. Raises TransactionExpired."""
        ...

    async def is_enacted(self, policies_hash: str) -> bool: ...
    async def emergencies(self, now: datetime) -> Emergencies: ...
    async def emergency(self, kind: str, target: str | None, reason: str, seconds: int) -> int: ...
    async def end_emergency(self, index: int) -> None: ...


class Readers(Protocol):
    """Those who were given an answer, and might be given the same again. Each returns when nobody who asks this process gets one from
    before; in other processes nobody does after 100 ms."""

    async def bundles_changed(self) -> None:
        """Another bundle decides, or one was adopted."""
        ...

    async def ledger_moved(self) -> None:
        """Something that `Ledger.state` tells has changed."""
        ...


class Texts(Protocol):
    """The constitutions that constitutional_ai keeps."""

    async def text(self, constitution_hash: str) -> Constitution | None:
        """Raises DependencyUnavailable."""
        ...


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

"""What the use cases need from outside."""

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.constitutional_ai import ConstitutionStatus
from acgs1.contracts.events import Event
from acgs1.contracts.policy_governance import ConstitutionOnLedger, LedgerReceipt
from acgs1.services.constitutional_ai.domain import StoredConstitution


class Records(Protocol):
    """The constitutions, inside one transaction."""

    async def add(self, stored: StoredConstitution) -> None: ...
    async def get(self, constitution_hash: str) -> StoredConstitution | None: ...
    async def with_status(self, status: ConstitutionStatus) -> StoredConstitution | None: ...
    async def page(self, cursor: str | None, limit: int) -> tuple[list[StoredConstitution], str | None]: ...
    async def set_status(
        self, constitution_hash: str, status: ConstitutionStatus, refusal: str | None = None
    ) -> None: ...
    async def bring_into_force(self, constitution_hash: str, version: int, at: datetime, signature: str | None) -> None:
        """Make this the one constitution in force; the one before it is superseded."""
        ...

    async def record(self, event: Event) -> None: ...


class Constitutions(Protocol):
    """Transactions over the constitutions."""

    def transaction(self) -> AbstractAsyncContextManager[Records]: ...
    def reading(self) -> AbstractAsyncContextManager[Records]: ...


class Readers(Protocol):
    """Those who were told how a constitution stands, and might be told the same again."""

    async def standing_changed(self) -> None:
        """Returns when nobody who asks this process gets an answer from before; in other processes nobody does after 100 ms."""
        ...


class Checker(Protocol):
    """Whether the schema and the invariants mean something to the evaluator."""

    def guards(self, constitution: Constitution) -> str:
        """The compiled guards; raises InvalidConstitution with the place of every fault."""
        ...


class Ledger(Protocol):
    """The register that makes a constitution binding."""

    async def ratify(self, constitution: Constitution) -> LedgerReceipt:
        """Idempotent. Raises DependencyUnavailable to be tried again, any other DomainError to give up."""
        ...

    async def in_force(self) -> ConstitutionOnLedger:
        """What the ledger has in force, as policy governance has followed it. Raises DependencyUnavailable."""
        ...

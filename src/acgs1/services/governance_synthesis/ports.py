"""What the use cases need from outside."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.events import Event
from acgs1.contracts.formal_verification import Obligation
from acgs1.contracts.governance_synthesis import Draft, DraftSummary, Strategy
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

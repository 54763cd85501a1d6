"""What the use cases need from outside."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.events import Event
from acgs1.contracts.evolutionary_computation import Candidate, NewRun, OversightCheck, Run
from acgs1.contracts.formal_verification import VerificationReport
from acgs1.services.evolutionary_computation.domain.space import Axis, Genome


class Records(Protocol):
    """The runs, inside one transaction."""

    async def add(self, run: Run, request: NewRun) -> None: ...
    async def get(self, run_id: str) -> Run | None: ...
    async def oldest_running(self) -> tuple[Run, NewRun] | None: ...
    async def count_running(self) -> int: ...
    async def page(self, cursor: str | None, limit: int) -> tuple[list[Run], str | None]: ...
    async def finish(self, run: Run, at: datetime) -> bool:
        """Keep the outcome of a run that is still `running`; False when it is not."""
        ...

    async def record(self, event: Event) -> None: ...


class Runs(Protocol):
    """Transactions over the runs."""

    def transaction(self) -> AbstractAsyncContextManager[Records]: ...
    def reading(self) -> AbstractAsyncContextManager[Records]: ...


class Experiment(Protocol):
    """Policies, thresholds and labelled outcomes, ready to be scored. CPU work off the event loop."""

    @property
    def axes(self) -> tuple[Axis, ...]: ...

    @property
    def names(self) -> tuple[str, ...]:
        """`policy_id/attribute` of each axis."""
        ...

    async def scores(self, genomes: Sequence[Genome]) -> list[float]:
        """Agreement with the labels, each between 0 and 1."""
        ...

    def policies(self, genome: Genome) -> str:
        """The policy set with these thresholds."""
        ...


class Bench(Protocol):
    """The evaluator that the decision point uses."""

    async def prepare(self, request: NewRun) -> Experiment:
        """Raises TunableRefused, PoliciesRefused, OutcomeRefused with the place of the fault."""
        ...


class Verifier(Protocol):
    """Formal verification."""

    async def verify(self, policies: str, constitution: Constitution, key: str) -> VerificationReport:
        """The report; asking again under the same `key` does no work twice.

        Raises DependencyUnavailable, VerificationFailed, or UpstreamRejected.
        """
        ...


class Overseer(Protocol):
    """Looks at a candidate without relying on the search that found it."""

    async def review(self, request: NewRun, candidate: Candidate) -> list[OversightCheck]:
        """What was checked and what was found. Raises what keeps it from checking."""
        ...

"""What the use cases need from outside."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

from acgs1.contracts.events import Event
from acgs1.contracts.formal_verification import Certificate, ProofCheck, VerificationReport, VerificationSummary
from acgs1.services.formal_verification.domain import Job, Plan, Status, StoredAnalysis, StoredVerification


class Prover(Protocol):
    """Does jobs, somewhere where a hanging or dying solver costs nothing but its own item."""

    async def plan(self, job: Job) -> Plan:
        """What the job comes down to. Raises InvalidPolicies, InvalidConstitution, TooManyObligations,
        ProverUnavailable."""
        ...

    def run(
        self, job: Job, plan: Plan, items: Sequence[int], deadline: float
    ) -> AsyncGenerator[tuple[int, dict[str, Any]]]:
        """Results by item number, in no order. Every item gets one: what could not be found out within `deadline`
        seconds, or cost a worker its life, is the item's `unknown` with the reason. Closing the generator stops the work."""
        ...


class Records(Protocol):
    """Verifications, cached obligations and certificates, inside one transaction."""

    async def add_verification(self, verification: StoredVerification) -> None: ...
    async def verification(self, verification_id: str) -> StoredVerification | None: ...
    async def verifications(self, cursor: str | None, limit: int) -> tuple[list[VerificationSummary], str | None]: ...
    async def running(self) -> list[StoredVerification]: ...
    async def finish(
        self,
        verification_id: str,
        status: Status,
        at: datetime,
        report: VerificationReport | None = None,
        detail: str | None = None,
    ) -> None: ...
    async def cached(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Stored results by key."""
        ...

    async def cache(self, results: dict[str, dict[str, Any]], at: datetime) -> None:
        """Stores results by key; a key that is there stays as it is."""
        ...

    async def keep_texts(self, texts: dict[str, str], at: datetime) -> None:
        """Stores scripts and proof objects by SHA-256."""
        ...

    async def text(self, digest: str) -> str | None: ...
    async def add_certificate(self, certificate: Certificate, verification_id: str, at: datetime) -> None: ...
    async def certificate(self, certificate_hash: str) -> tuple[Certificate, str] | None:
        """The certificate and the id of its verification."""
        ...

    async def add_analysis(self, analysis: StoredAnalysis) -> None: ...
    async def analysis(self, analysis_id: str) -> StoredAnalysis | None: ...
    async def running_analyses(self) -> list[StoredAnalysis]: ...
    async def finish_analysis(
        self,
        analysis_id: str,
        status: Status,
        at: datetime,
        result: dict[str, Any] | None = None,
        detail: str | None = None,
    ) -> None: ...
    async def record(self, event: Event) -> None: ...


class Archive(Protocol):
    """Transactions over the records."""

    def transaction(self) -> AbstractAsyncContextManager[Records]: ...
    def reading(self) -> AbstractAsyncContextManager[Records]: ...


class ProofChecker(Protocol):
    """A checker of proof objects that is no part of the solver."""

    async def check(self, script: str, proof: str) -> ProofCheck: ...


class Signer(Protocol):
    """Signs certificates (Ed25519)."""

    @property
    def key_id(self) -> str: ...
    @property
    def public_key(self) -> str:
        """base64url without padding."""
        ...

    def sign(self, data: bytes) -> str:
        """The signature, base64url without padding."""
        ...

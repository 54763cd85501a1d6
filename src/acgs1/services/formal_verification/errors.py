"""What this room refuses, and why."""

from typing import ClassVar

from acgs1.core.errors import DomainError


class InvalidPolicies(DomainError):
    """A policy text is not Cedar, does not fit the schema, or uses what cannot be proved about."""

    code: ClassVar[str] = "invalid_policies"
    title: ClassVar[str] = "The policies are not valid under the schema"


class InvalidConstitution(DomainError):
    """The schema or an invariant is not valid, or an invariant speaks about no request at all."""

    code: ClassVar[str] = "invalid_constitution"
    title: ClassVar[str] = "The constitution is not valid"


class TooManyObligations(DomainError):
    """The input is well-formed but larger than this service takes."""

    code: ClassVar[str] = "too_many_obligations"
    title: ClassVar[str] = "There is more to prove than the limit admits"


class VerificationNotFound(DomainError):
    code: ClassVar[str] = "verification_not_found"
    title: ClassVar[str] = "There is no such verification"


class AnalysisNotFound(DomainError):
    code: ClassVar[str] = "analysis_not_found"
    title: ClassVar[str] = "There is no such analysis"


class CertificateNotFound(DomainError):
    code: ClassVar[str] = "certificate_not_found"
    title: ClassVar[str] = "There is no such certificate"


class ProofTextNotFound(DomainError):
    code: ClassVar[str] = "proof_text_not_found"
    title: ClassVar[str] = "There is no such script or proof"


class ProverDefect(DomainError):
    """Two provers contradict each other, or one the evaluator. No verdict stands on it; somebody must look."""

    code: ClassVar[str] = "prover_defect"
    title: ClassVar[str] = "A prover is wrong"


class ProverUnavailable(DomainError):
    """The workers cannot take the job: too many are waiting, or they cannot be started."""

    code: ClassVar[str] = "prover_unavailable"
    title: ClassVar[str] = "No prover is free"

"""The rules of the room: what a verdict is worth, what a certificate says. No solver here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import (
    Certificate,
    CertificateBody,
    Obligation,
    ObligationEvidence,
    Verdict,
    VerificationReport,
)
from acgs1.core.canonical import canonical_json
from acgs1.core.hashing import sha256_hex

Change = Literal["unchanged", "narrows", "widens", "both", "unknown"]
Status = Literal["running", "done", "cancelled", "failed"]
JobKind = Literal["verify", "compare", "question"]

MAX_OBLIGATIONS = 100_000
"""More than 1000 policies in 90 environments need; beyond it a job would hold the prover for hours."""


@dataclass(frozen=True, slots=True)
class Job:
    """Work for the prover, as plain JSON: a worker process opens it, plans its items and does them one by one."""

    id: str
    kind: JobKind
    input: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One planned item of a job. Equal keys, equal results; an empty key is never cached. `unknown` is the item's result
    for when nothing can be found out: the caller adds the reason."""

    index: int
    key: str
    unknown: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job comes down to, and what the worker says about it as a whole."""

    items: tuple[Item, ...]
    facts: dict[str, Any]


CONTRADICTION = "the evaluator does not confirm the solver's counterexample"
DISAGREEMENT = "cvc5 and z3 disagree"
"""Reasons of an `unknown` that are defects of a prover, never of the policies: alert on them, keep the reproducer."""


def is_defect(obligation: Obligation) -> bool:
    """Whether the `unknown` of an obligation shows that a prover is wrong."""
    reason = obligation.reason or ""
    return reason.startswith((CONTRADICTION, DISAGREEMENT, "replay contradicts solver"))


def verdict_of(obligations: Iterable[Obligation]) -> Verdict:
    """`refuted` if any is; `proved` only if there is at least one and all are; else `unknown`."""
    verdicts = [obligation.verdict for obligation in obligations]
    if "refuted" in verdicts:
        return "refuted"
    return "proved" if verdicts and all(verdict == "proved" for verdict in verdicts) else "unknown"


def overall_change(changes: Iterable[Change]) -> Change:
    """The change over all environments."""
    seen = set(changes)
    if "unknown" in seen:
        return "unknown"
    if "both" in seen or {"narrows", "widens"} <= seen:
        return "both"
    return "narrows" if "narrows" in seen else "widens" if "widens" in seen else "unchanged"


def certificate_body(report: VerificationReport, kernel: str, issued_at: datetime) -> CertificateBody:
    """What is signed for a report whose every obligation is proved. Raises ValueError for any other."""
    if verdict_of(report.obligations) != "proved":
        raise ValueError("a certificate needs at least one obligation and every one of them proved")
    solvers = sorted({obligation.solver for obligation in report.obligations})
    return CertificateBody(
        policies_hash=report.policies_hash,
        schema_hash=report.schema_hash,
        constitution_hash=report.constitution_hash,
        obligations=[
            ObligationEvidence(
                id=obligation.id,
                kind=obligation.kind,
                principle_id=obligation.principle_id,
                environment=obligation.environment,
                smtlib_sha256=obligation.smtlib_sha256,
                verdict=obligation.verdict,
                solver=obligation.solver,
                second_opinion=obligation.second_opinion,
            )
            for obligation in report.obligations
        ],
        kernel=kernel,
        solver=", ".join(solvers),
        issued_at=issued_at,
    )


def signed_bytes(body: CertificateBody) -> bytes:
    """What the signature is over and `hash` is of: the canonical JSON (RFC 8785) of the body."""
    return canonical_json(body.model_dump(mode="json"))


def sign_certificate(body: CertificateBody, key_id: str, sign: Callable[[bytes], str]) -> Certificate:
    """The certificate over `body`; `sign` returns base64url without padding."""
    data = signed_bytes(body)
    return Certificate(body=body, hash=sha256_hex(data), key_id=key_id, signature=sign(data))


def certificate_flaws(certificate: Certificate) -> list[str]:
    """What is wrong with a certificate apart from its signature; nothing, if it is sound."""
    flaws: list[str] = []
    if certificate.hash != sha256_hex(signed_bytes(certificate.body)):
        flaws.append("the hash is not that of the body")
    if not certificate.body.obligations:
        flaws.append("it lists no obligation, so it proves nothing")
    flaws += [
        f"obligation `{obligation.id}` is {obligation.verdict}"
        for obligation in certificate.body.obligations
        if obligation.verdict != "proved"
    ]
    return flaws


@dataclass(frozen=True, slots=True)
class StoredVerification:
    """One verification as it is kept: its inputs, so that it can be resumed and re-proved, and its report once there is one."""

    id: str
    status: Status
    policies: str
    constitution: Constitution
    constitution_hash: str
    deadline_seconds: float
    requested_by: str
    created_at: datetime
    finished_at: datetime | None = None
    report: VerificationReport | None = None
    detail: str | None = None

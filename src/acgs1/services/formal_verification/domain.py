"""The rules of the room: what a verdict is worth, what a certificate says. No solver here."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import (
    Certificate,
    CertificateBody,
    Finding,
    Obligation,
    ObligationEvidence,
    ProofCheck,
    ScriptProof,
    Strength,
    Verdict,
    VerificationReport,
)
from acgs1.core.canonical import canonical_json
from acgs1.core.hashing import sha256_hex, text_hash

Change = Literal["unchanged", "narrows", "widens", "both", "unknown"]
Status = Literal["running", "done", "cancelled", "failed"]
JobKind = Literal["verify", "compare", "question", "hygiene", "constitution", "proofs"]
Answer3 = Literal["yes", "no", "unknown"]

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
UNCONFIRMED = "replay contradicts solver"
DISAGREEMENT = "cvc5 and z3 disagree"
REJECTED = "a checker rejects cvc5's proof"
"""Reasons of an `unknown` that are defects of a prover, never of the policies: alert on them, keep the reproducer."""


def is_defect(obligation: Obligation) -> bool:
    """Whether the `unknown` of an obligation shows that a prover is wrong."""
    reason = obligation.reason or ""
    return reason in {CONTRADICTION, UNCONFIRMED, DISAGREEMENT, REJECTED}


INCREMENTAL = ", for what changed since an earlier proof"
"""Ends the `solver` of an obligation whose script is about a part of the policies: the rest was proved before."""


def strength_of(
    verdict: Verdict, solver: str, smtlib_sha256: str | None, second_opinion: str, proofs: Sequence[ScriptProof] = ()
) -> Strength | None:
    """What stands behind a verdict."""
    if verdict != "proved":
        return "replayed" if verdict == "refuted" else None
    if solver.endswith(INCREMENTAL):
        return "earlier_proof"
    if smtlib_sha256 is None:
        return "compiled"
    if second_opinion != "agrees":
        return "one_solver"
    if proofs and all(any(is_independent(check) for check in proof.checks) for proof in proofs):
        return "checked_proof"
    return "two_solvers"


def script_digest(scripts: Sequence[str]) -> str | None:
    """How an obligation names its scripts by their hashes: the one, SHA-256 over several by line, or None."""
    if len(scripts) < 2:
        return scripts[0] if scripts else None
    return text_hash("\n".join(scripts))


def is_independent(check: ProofCheck) -> bool:
    """Whether a checker that is no part of the solver found the whole proof correct."""
    return check.result == "correct" and not check.checker.startswith("cvc5")


def with_proofs(obligation: Obligation, proofs: list[ScriptProof]) -> Obligation:
    """The obligation with its proof objects, and its strength accordingly. A proof that a checker rejects is a defect of a
    prover: the obligation is then `unknown`."""
    rejected = any(check.result == "failed" for proof in proofs for check in proof.checks)
    verdict = "unknown" if rejected else obligation.verdict
    strength = strength_of(verdict, obligation.solver, obligation.smtlib_sha256, obligation.second_opinion, proofs)
    changes: dict[str, Any] = {"proofs": proofs, "verdict": verdict, "strength": strength}
    return obligation.model_copy(update={**changes, **({"reason": REJECTED} if rejected else {})})


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


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """What one policy does in one request environment. `covered_by` names a policy of the same effect that matches
    whenever it does; `forbidden`: every request that it permits is forbidden; `conflicts`: forbids that can match with it;
    `spoken_of`: some invariant of the constitution is about this environment."""

    policy_id: str
    effect: Literal["permit", "forbid"]
    environment: tuple[str, str, str]
    never_matches: Answer3
    redundant: Answer3
    covered_by: list[str]
    forbidden: Answer3
    conflicts: list[str]
    spoken_of: bool


def hygiene_findings(facts: Iterable[PolicyFacts]) -> list[Finding]:
    """What the facts of one policy set come down to. A policy does nothing only if it does nothing anywhere."""
    by_policy: dict[str, list[PolicyFacts]] = {}
    for fact in facts:
        by_policy.setdefault(fact.policy_id, []).append(fact)
    findings: list[Finding] = []
    for policy_id, places in by_policy.items():
        findings += _policy_findings(policy_id, places)
    return findings


def _policy_findings(policy_id: str, places: list[PolicyFacts]) -> list[Finding]:
    live = [place for place in places if place.never_matches != "yes"]
    if not live:
        return [_finding("never_matches", f"policy `{policy_id}` matches no request at all", policy_id)]
    if all(place.forbidden == "yes" for place in live):
        return [_finding("always_forbidden", f"whatever policy `{policy_id}` permits is forbidden", policy_id)]
    findings: list[Finding] = []
    if all(place.redundant == "yes" for place in live):
        covering = sorted({other for place in live for other in place.covered_by})
        if covering and all(place.covered_by for place in live):
            names = ", ".join(f"`{name}`" for name in covering)
            detail = f"policy `{policy_id}` is shadowed by {names}: it never matches alone"
            findings.append(_finding("shadowed", detail, policy_id, *covering))
        else:
            detail = f"policy `{policy_id}` is redundant: the decisions are the same without it"
            findings.append(_finding("redundant", detail, policy_id))
    findings += [
        _finding(
            "conflict",
            f"policies `{policy_id}` and `{other}` can match the same request, and the forbid wins",
            policy_id,
            other,
        )
        for other in sorted({other for place in live for other in place.conflicts})
    ]
    beyond = [place for place in live if place.effect == "permit" and not place.spoken_of]
    if beyond:
        where = "; ".join(" / ".join(place.environment) for place in beyond[:5])
        detail = f"policy `{policy_id}` permits where no invariant of the constitution speaks: {where}"
        findings.append(_finding("beyond_constitution", detail, policy_id))
    return findings


def undecided_facts(facts: Iterable[PolicyFacts]) -> int:
    """How many questions about the policies have no answer."""
    return sum((fact.never_matches, fact.redundant, fact.forbidden).count("unknown") for fact in facts)


def _finding(kind: str, detail: str, *policy_ids: str) -> Finding:
    return Finding(kind=kind, detail=detail, policy_ids=list(policy_ids))


def implied_findings(looks: Iterable[dict[str, Answer3]]) -> list[Finding]:
    """Invariants that the others imply in every environment in which they speak; each look is about one environment."""
    everywhere: dict[str, set[Answer3]] = {}
    for look in looks:
        for name, answer in look.items():
            everywhere.setdefault(name, set()).add(answer)
    findings: list[Finding] = []
    for name, answers in everywhere.items():
        if answers == {"yes"}:
            principle_id, _, index = name.rpartition(":")
            detail = f"invariant {index} of principle `{principle_id}` is implied by the others wherever it speaks"
            findings.append(Finding(kind="implied", detail=detail, principle_ids=[principle_id]))
    return findings


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
    proofs: bool = False
    """Whether proof objects are to be kept."""
    finished_at: datetime | None = None
    report: VerificationReport | None = None
    detail: str | None = None

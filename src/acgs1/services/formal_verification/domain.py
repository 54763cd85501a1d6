"""The rules of the room: what a verdict is worth, what a certificate says. No solver here."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import (
    Answer,
    Certificate,
    CertificateBody,
    Counterexample,
    EnvironmentAnswer,
    Finding,
    Findings,
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


IDENTITY = "identity"
"""Begins the `solver` of an obligation about two runs that are one, because no policy reads the attributes."""


def strength_of(  # noqa: PLR0911 - one return per kind of evidence
    verdict: Verdict, solver: str, smtlib_sha256: str | None, second_opinion: str, proofs: Sequence[ScriptProof] = ()
) -> Strength | None:
    """What stands behind a verdict."""
    if verdict != "proved":
        return "replayed" if verdict == "refuted" else None
    if solver.endswith(INCREMENTAL):
        return "earlier_proof"
    if solver.startswith(IDENTITY):
        return "identity"
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
    whenever it does. `forbidden`: every request that it permits is forbidden, by `forbidden_by`. `overridden_by`: forbids that
    can match with it, where that was asked. `beyond`: it allows what no invariant of the constitution mentions.
    `unanswered`: the questions without an answer, with the reason."""

    policy_id: str
    effect: Literal["permit", "forbid"]
    environment: tuple[str, str, str]
    can_error: Answer3
    error_example: dict[str, Any] | None
    never_matches: Answer3
    redundant: Answer3
    covered_by: list[str]
    forbidden: Answer3
    forbidden_by: list[str]
    overridden_by: list[str]
    beyond: Answer3 = "no"
    beyond_example: dict[str, Any] | None = None
    unanswered: list[str] = field(default_factory=list[str])


INFORMATIONAL = frozenset({"overridden"})
"""Kinds of findings that are no reproach: a forbid that limits a permit is how Cedar policies are written."""


def hygiene_findings(facts: Iterable[PolicyFacts]) -> list[Finding]:
    """What the facts of one policy set come down to. A policy does nothing only if it does nothing anywhere."""
    by_policy: dict[str, list[PolicyFacts]] = {}
    for fact in facts:
        by_policy.setdefault(fact.policy_id, []).append(fact)
    live = {name: [place for place in places if place.never_matches != "yes"] for name, places in by_policy.items()}
    shadows = {name: _shadows(places) for name, places in live.items()}
    findings: list[Finding] = []
    for name, places in live.items():
        # A policy that never matches can fail all the same, which denies.
        findings += _error_findings(name, by_policy[name])
        findings += _policy_findings(name, places, shadows)
    return findings


def _shadows(live: list[PolicyFacts]) -> list[str]:
    """Policies of the same effect that between them match wherever this one does."""
    if not live or not all(place.redundant == "yes" and place.covered_by for place in live):
        return []
    return sorted({other for place in live for other in place.covered_by})


def _policy_findings(policy_id: str, live: list[PolicyFacts], shadows: dict[str, list[str]]) -> list[Finding]:
    if not live:
        return [_finding("never_matches", f"policy `{policy_id}` matches no request at all", policy_id)]
    findings: list[Finding] = []
    if all(place.forbidden == "yes" for place in live):
        forbids = sorted({other for place in live for other in place.forbidden_by})
        detail = f"policy `{policy_id}` never takes effect: whatever it permits is forbidden by {_named(forbids)}"
        return [_finding("conflict", detail, policy_id, *forbids)]
    if covering := shadows[policy_id]:
        if len(covering) > 1 or shadows[covering[0]] != [policy_id]:
            detail = f"policy `{policy_id}` is shadowed by {_named(covering)}: it never matches alone"
            findings.append(_finding("shadowed", detail, policy_id, *covering))
        elif policy_id < covering[0]:
            detail = f"policies `{policy_id}` and {_named(covering)} match the same requests: one of them is enough"
            findings.append(_finding("shadowed", detail, policy_id, *covering))
    elif all(place.redundant == "yes" for place in live):
        what = "forbids nothing that is permitted" if live[0].effect == "forbid" else "is redundant"
        detail = f"policy `{policy_id}` {what}: the decisions are the same without it"
        findings.append(_finding("redundant", detail, policy_id))
    forbids = sorted({other for place in live for other in place.overridden_by})
    if forbids:
        detail = (
            f"policy `{policy_id}` is limited by {_named(forbids)}: on some requests both match, and the forbid wins"
        )
        findings.append(_finding("overridden", detail, policy_id, *forbids))
    return findings + _beyond_findings(policy_id, live)


def _beyond_findings(policy_id: str, live: list[PolicyFacts]) -> list[Finding]:
    """One finding for all environments, with the first example."""
    beyond = [place for place in live if place.beyond == "yes"]
    if not beyond:
        return []
    where = "; ".join(" / ".join(place.environment) for place in beyond[:5])
    more = f" and {len(beyond) - 5} more" if len(beyond) > 5 else ""
    example = next((place.beyond_example for place in beyond if place.beyond_example is not None), None)
    shown = Counterexample.model_validate(example) if example is not None else None
    such = f", such as that {shown.explanation}" if shown is not None else ""
    detail = f"policy `{policy_id}` permits what no principle mentions, in {where}{more}{such}"
    return [Finding(kind="beyond_constitution", detail=detail, policy_ids=[policy_id], example=shown)]


def _error_findings(policy_id: str, places: list[PolicyFacts]) -> list[Finding]:
    """One finding for all environments, with the first example."""
    failing = [place for place in places if place.can_error == "yes"]
    if not failing:
        return []
    example = next((place.error_example for place in failing if place.error_example is not None), None)
    shown = Counterexample.model_validate(example) if example is not None else None
    detail = shown.explanation if shown is not None else f"policy `{policy_id}` cannot be evaluated on some requests"
    return [Finding(kind="can_error", detail=detail, policy_ids=[policy_id], example=shown)]


def _named(policy_ids: Sequence[str]) -> str:
    return ", ".join(f"`{policy_id}`" for policy_id in policy_ids)


def _finding(kind: str, detail: str, *policy_ids: str) -> Finding:
    return Finding(kind=kind, detail=detail, policy_ids=list(policy_ids))


def answer_of(results: Iterable[dict[str, Any]]) -> Answer:
    """What the results of a job `question` come down to."""
    environments = [EnvironmentAnswer.model_validate(result) for result in results]
    answers = {environment.answer for environment in environments}
    overall = "yes" if "yes" in answers else "unknown" if "unknown" in answers else "no"
    return Answer(answer=overall, environments=environments)


def hygiene_outcome(results: Iterable[dict[str, Any]]) -> Findings:
    """What the results of a job `hygiene` come down to."""
    known, unanswered = _known(results)
    facts = [PolicyFacts(**result) for result in known]
    unanswered += [question for fact in facts for question in fact.unanswered]
    return Findings(findings=hygiene_findings(facts), undecided=len(unanswered), unanswered=unanswered)


def constitution_outcome(results: Iterable[dict[str, Any]]) -> Findings:
    """What the results of a job `constitution` come down to; each is about one environment."""
    known, unanswered = _known(results)
    found = [Finding.model_validate(finding) for result in known for finding in result["findings"]]
    found += law_findings(known)
    unanswered += [question for result in known for question in result["unanswered"]]
    return Findings(findings=found, undecided=len(unanswered), unanswered=unanswered)


def _known(results: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The results that there are; and what the others are about, with the reason."""
    results = list(results)
    missing = [f"whatever there is to ask about {r['about']}: {r['reason']}" for r in results if "about" in r]
    return [result for result in results if "about" not in result], missing


def law_findings(looks: Iterable[dict[str, Any]]) -> list[Finding]:
    """Invariants that are about no request in any environment of their scope, and those that the others imply in every one."""
    looks = list(looks)
    vacuous = _everywhere(look["vacuous"] for look in looks)
    implied = [name for name in _everywhere(look["implied"] for look in looks) if name not in vacuous]
    return [
        *(_of_claim("vacuous", name, "never applies: no request meets its condition") for name in vacuous),
        *(_of_claim("implied", name, "is implied by the others wherever it speaks") for name in implied),
    ]


def _everywhere(looks: Iterable[dict[str, Answer3]]) -> list[str]:
    """The claims of which every look says `yes`."""
    answers: dict[str, set[Answer3]] = {}
    for look in looks:
        for name, answer in look.items():
            answers.setdefault(name, set()).add(answer)
    return [name for name, found in answers.items() if found == {"yes"}]


def _of_claim(kind: str, name: str, what: str) -> Finding:
    principle_id, _, index = name.rpartition(":")
    detail = f"invariant {index} of principle `{principle_id}` {what}"
    return Finding(kind=kind, detail=detail, principle_ids=[principle_id])


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
                strength=obligation.strength,
            )
            for obligation in report.obligations
        ],
        kernel=kernel,
        solver=", ".join(solvers),
        issued_at=issued_at,
    )


def signed_bytes(body: CertificateBody) -> bytes:
    """What the signature is over and `hash` is of: the canonical JSON (RFC 8785) of the body, in the fields of its format."""
    data = body.model_dump(mode="json")
    if body.format == "acgs1-certificate/1":
        for obligation in data["obligations"]:
            del obligation["strength"]
    return canonical_json(data)


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


@dataclass(frozen=True, slots=True)
class StoredAnalysis:
    """A comparison, question or check as it is kept: its input, so that it can be resumed, and its result once there is one."""

    id: str
    kind: JobKind
    input: dict[str, Any]
    status: Status
    requested_by: str
    created_at: datetime
    result: dict[str, Any] | None = None
    detail: str | None = None

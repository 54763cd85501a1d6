"""Boundary of the formal verification service (port 8003)."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from acgs1.contracts.common import Message, Sha256
from acgs1.contracts.constitution import Constitution, Scope


def _without_nul(text: str) -> str:
    at = text.find("\0")
    if at >= 0:
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        raise ValueError(f"U+0000 at line {line}, column {column}; in a string of Cedar, write it as `\\u{{0}}`")
    return text


PolicyText = Annotated[str, Field(min_length=1, max_length=2_000_000), AfterValidator(_without_nul)]

Verdict = Literal["proved", "refuted", "unknown"]
"""Only `proved` counts as compliant."""


class NewVerification(Message):
    """Prove `policies` (Cedar text) against `constitution`, under the constitution's schema."""

    policies: PolicyText
    constitution: Constitution
    deadline_seconds: Annotated[float, Field(gt=0, le=600)] = 60.0


class RequestEnvironment(Message):
    """One combination of principal type, action and resource type that the schema admits."""

    principal: str
    action: str
    resource: str


class Counterexample(Message):
    """A concrete request, and the entities it needs, that the real evaluator decides against the principle.

    `paired` is the second request of a two-run property (`indifferent_to`, `monotone_in`): it differs only in the named attributes.
    `decisions` are the evaluator's answers on replay, in the order (first, paired).
    """

    principal: str
    action: str
    resource: str
    context: dict[str, JsonValue]
    entities: list[dict[str, JsonValue]]
    decisions: list[Literal["allow", "deny"]]
    determining_policies: list[str]
    paired: "Counterexample | None" = None
    explanation: str


class Suggestion(Message):
    """A small edit with which the obligation is proved. `edit` says what is done with `add`:

    `append` or `prepend`: a clause that each of `policy_ids` gets after, or before, its other clauses;
    `policy`: a policy to add; `replace`: what stands instead of `policy_ids`; nothing, where it is empty.
    """

    policy_ids: list[str]
    edit: Literal["append", "prepend", "policy", "replace"] = "append"
    add: str


class ProofCheck(Message):
    """What a checker said about one proof object. `incomplete`: sound as far as it goes, but it trusts a step."""

    checker: str
    result: Literal["correct", "incomplete", "failed"]
    detail: str | None = None


class ScriptProof(Message):
    """cvc5's proof object (format CPC) that no model satisfies the script. Both texts are kept by their hashes."""

    smtlib_sha256: Sha256
    proof_sha256: Sha256 | None = None
    reason: str | None = Field(default=None, description="why there is no proof object")
    checks: list[ProofCheck] = []


Strength = Literal["replayed", "identity", "compiled", "earlier_proof", "one_solver", "two_solvers", "checked_proof"]
"""What stands behind a verdict: `replayed` in the evaluator (refuted); nothing to ask, because the two runs compared are one
(`identity`: no policy reads the attributes); decided while it was `compiled`, with nothing left for a
solver; resting in part on an `earlier_proof` of this process; answered by `one_solver` (cvc5); by `two_solvers` (z3 agrees); by both,
with every proof object found correct by a checker that is no part of either (`checked_proof`)."""


class Obligation(Message):
    """One thing to prove and what came of it."""

    id: str
    kind: Literal["never", "always", "indifferent_to", "monotone_in", "never_errors"]
    principle_id: str | None = Field(
        description="None for obligations that hold for every policy set, such as freedom from errors"
    )
    invariant_index: int | None
    policy_id: str | None = None
    environment: RequestEnvironment
    verdict: Verdict
    reason: str | None = Field(default=None, description="why `unknown`")
    counterexample: Counterexample | None = None
    suggestion: Suggestion | None = None
    smtlib_sha256: Sha256 | None = Field(
        default=None, description="None where the compiler folded the obligation to a constant"
    )
    solver: str
    second_opinion: Literal["agrees", "unknown", "not_run"] = "not_run"
    strength: Strength | None = Field(default=None, description="None where nothing was found out")
    proofs: list[ScriptProof] = Field(default=[], description="filled where the verification was asked to keep proofs")
    milliseconds: float


class Finding(Message):
    """A hygiene finding: worth a person's look, not a verdict on compliance. `example` is a request that shows it."""

    kind: str
    detail: str
    policy_ids: list[str] = []
    principle_ids: list[str] = []
    example: Counterexample | None = None


class VerificationReport(Message):
    """The outcome for exact hashes of policies, schema and constitution. Zero obligations is not a pass: `verdict` is then `unknown`."""

    id: str
    policies_hash: Sha256
    schema_hash: Sha256
    constitution_hash: Sha256
    verdict: Verdict
    obligations: list[Obligation]
    principles_without_invariants: list[str]
    findings: list[Finding] = []
    certificate_hash: Sha256 | None = Field(description="set exactly when every obligation is proved")
    started_at: datetime
    milliseconds: float


class ObligationEvidence(Message):
    """What a certificate keeps of one proved obligation."""

    id: str
    kind: str
    principle_id: str | None
    environment: RequestEnvironment
    smtlib_sha256: Sha256 | None
    verdict: Verdict
    solver: str
    second_opinion: Literal["agrees", "unknown", "not_run"]
    strength: Strength | None = Field(default=None, description="since format 2")


class CertificateBody(Message):
    """What is signed: canonical JSON of this, Ed25519. Format 1 has no `strength`."""

    format: Literal["acgs1-certificate/1", "acgs1-certificate/2"] = "acgs1-certificate/2"
    policies_hash: Sha256
    schema_hash: Sha256
    constitution_hash: Sha256
    obligations: list[ObligationEvidence]
    kernel: str
    solver: str
    issued_at: datetime


class Certificate(Message):
    """A signed statement that every obligation was proved. `hash` is SHA-256 of the canonical JSON of `body`."""

    body: CertificateBody
    hash: Sha256
    key_id: str
    signature: str = Field(description="Ed25519 over the canonical JSON of `body`, base64url without padding")


class ObligationProofs(Message):
    """What can be had about one obligation of a certificate. Without a script it was decided by the compiler alone."""

    obligation_id: str
    smtlib_sha256: Sha256 | None = Field(
        description="as the certificate says: the script's, or SHA-256 over those of several, by line"
    )
    strength: Strength | None
    proofs: list[ScriptProof]


class CertificateProofs(Message):
    """The proof objects kept with a certificate. They are bound to it by the scripts' hashes, which it signs."""

    certificate_hash: Sha256
    format: Literal["cpc"] = "cpc"
    obligations: list[ObligationProofs]


class NewComparison(Message):
    """What changes, in meaning, from `old` to `new`: in what the decision point decides, which denies where a policy fails."""

    schema_text: PolicyText
    old: PolicyText
    new: PolicyText


class EnvironmentChange(Message):
    environment: RequestEnvironment
    change: Literal["unchanged", "narrows", "widens", "both", "unknown"]
    newly_allowed: Counterexample | None = None
    newly_denied: Counterexample | None = None
    reason: str | None = Field(default=None, description="why `unknown`")


class Comparison(Message):
    change: Literal["unchanged", "narrows", "widens", "both", "unknown"]
    environments: list[EnvironmentChange]


class VerifierKey(Message):
    """The key that certificates are signed with."""

    key_id: str
    public_key: str = Field(description="Ed25519 public key, base64url without padding")


class VerificationProgress(Message):
    """A verification or analysis that has no outcome: still running, cancelled, or failed (`detail` says why)."""

    id: str
    status: Literal["running", "cancelled", "failed"]
    obligations_done: int
    obligations_total: int
    detail: str | None = None


class VerificationSummary(Message):
    """One line of the list of verifications. `verdict` is None until there is a report."""

    id: str
    status: Literal["running", "done", "cancelled", "failed"]
    verdict: Verdict | None
    policies_hash: Sha256
    constitution_hash: Sha256
    certificate_hash: Sha256 | None
    requested_by: str
    created_at: datetime


class CertificateInputs(Message):
    """What a certificate was issued for, archived with it, so that anybody can prove it again."""

    policies: PolicyText
    constitution: Constitution


class HygieneCheck(Message):
    """Look for policies that can fail, that do nothing, or more than the constitution speaks of."""

    policies: PolicyText
    constitution: Constitution
    overrides: bool = Field(default=False, description="also list which forbids limit which permits, which is no fault")


class ConstitutionCheck(Message):
    """Look for principles that contradict or imply one another, or never apply."""

    constitution: Constitution


class Findings(Message):
    """What was found. `undecided` counts the questions without an answer (time, or beyond the solver); `unanswered` names them
    with the reason."""

    findings: list[Finding]
    undecided: int
    unanswered: list[str] = []


class NewQuestion(Scope):
    """Can a request in scope with `when` and every `assume` ever be allowed (or denied)?

    `never` invariants of `constitution` count as guards when it is given; its schema must then be `schema_text`.
    """

    schema_text: PolicyText
    policies: PolicyText
    constitution: Constitution | None = None
    decision: Literal["allow", "deny"] = "allow"
    when: Annotated[str, Field(min_length=1, max_length=20_000)] = "true"
    assume: Annotated[tuple[str, ...], Field(max_length=50)] = ()


class EnvironmentAnswer(Message):
    """`yes` comes with an example, `no` is proved."""

    environment: RequestEnvironment
    answer: Literal["yes", "no", "unknown"]
    example: Counterexample | None = None
    reason: str | None = None


class Answer(Message):
    """`yes` if in any environment, `no` if proved for all."""

    answer: Literal["yes", "no", "unknown"]
    environments: list[EnvironmentAnswer]


AnalysisOutcome = Comparison | Answer | Findings
"""What an analysis that is no verification comes to."""


class Attestation(Message):
    """The verifier's word on the ledger: this certificate was issued for these policies under this version of the constitution."""

    certificate_hash: Sha256
    constitution_version: int
    signature: str = Field(description="transaction signature, base58")

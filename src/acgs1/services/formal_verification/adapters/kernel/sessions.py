"""Jobs as a worker process sees them: JSON in, JSON out."""

from dataclasses import asdict
from typing import Any, Protocol

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import Finding, NewQuestion, ProofCheck, ScriptProof
from acgs1.core.hashing import text_hash
from acgs1.services.formal_verification.adapters.kernel.cedar import Environment
from acgs1.services.formal_verification.adapters.kernel.comparison import ComparisonSession
from acgs1.services.formal_verification.adapters.kernel.constitutions import ConstitutionSession
from acgs1.services.formal_verification.adapters.kernel.hygiene import HygieneSession
from acgs1.services.formal_verification.adapters.kernel.law import Vocabularies
from acgs1.services.formal_verification.adapters.kernel.obligations import (
    Planned,
    VerificationSession,
)
from acgs1.services.formal_verification.adapters.kernel.proof_objects import NoProof, proof_object
from acgs1.services.formal_verification.adapters.kernel.prover import CVC5, Provers, kernel_identity
from acgs1.services.formal_verification.adapters.kernel.questions import QuestionSession
from acgs1.services.formal_verification.domain import JobKind, script_digest, with_proofs

Json = dict[str, Any]
_PROOF_MS = 15_000


class Session(Protocol):
    """One job: what it comes down to, and each item of it."""

    def plan(self) -> Json: ...
    def run(self, index: int) -> Json: ...


class Sessions:
    """Opens jobs over shared caches of schemas and compiled policies."""

    def __init__(self, *, solver_timeout_ms: int, second_opinion_ms: int) -> None:
        self._vocabularies = Vocabularies()
        self._second_opinion_ms = second_opinion_ms
        self._provers = Provers(solver_timeout_ms=solver_timeout_ms, second_opinion_ms=second_opinion_ms)

    def take_defects(self) -> list[Json]:
        """Reproducers of defects of the provers since the last call."""
        return self._provers.take_defects()

    def open(self, kind: JobKind, data: Json) -> Session:
        """Raises the domain errors of the session's inputs."""
        shared = (self._vocabularies, self._provers)
        match kind:
            case "verify":
                constitution = Constitution.model_validate(data["constitution"])
                session = VerificationSession(data["policies"], constitution, *shared)
                return _Verification(session, self._warnings(data, constitution))
            case "compare":
                return _Comparison(ComparisonSession(data["schema_text"], data["old"], data["new"], *shared))
            case "question":
                return _Question(QuestionSession(NewQuestion.model_validate(data), *shared))
            case "hygiene":
                constitution = Constitution.model_validate(data["constitution"])
                overrides: bool = data.get("overrides", False)
                return _Hygiene(HygieneSession(data["policies"], constitution, *shared, overrides=overrides))
            case "constitution":
                constitution = Constitution.model_validate(data["constitution"])
                return _Constitution(ConstitutionSession(constitution, *shared))
            case "proofs":
                # Provers and vocabularies of its own: what was proved before would leave no script.
                fresh = Provers(solver_timeout_ms=_PROOF_MS, second_opinion_ms=self._second_opinion_ms)
                constitution = Constitution.model_validate(data["constitution"])
                session = VerificationSession(data["policies"], constitution, Vocabularies(), fresh)
                return _Proofs(session, fresh, self._warnings(data, constitution))

    def _warnings(self, data: Json, constitution: Constitution) -> list[Finding]:
        """About the constitution; only where they are asked for, because a proof may not wait for them."""
        if not data.get("warnings", False):
            return []
        return ConstitutionSession(constitution, self._vocabularies, self._provers).vacuous()


class _Verification:
    def __init__(self, session: VerificationSession, warnings: list[Finding]) -> None:
        self._session = session
        self._warnings = warnings

    def plan(self) -> Json:
        return {
            "items": [{"key": planned.key, "unknown": unproved(planned)} for planned in self._session.planned],
            "facts": {
                "kernel": kernel_identity(),
                "principles_without_invariants": self._session.principles_without_invariants,
                "findings": [finding.model_dump(mode="json") for finding in self._warnings],
            },
        }

    def run(self, index: int) -> Json:
        return self._session.prove(index).model_dump(mode="json")


class _Proofs(_Verification):
    """A verification that leaves the script and cvc5's proof behind each proved obligation."""

    def __init__(self, session: VerificationSession, provers: Provers, warnings: list[Finding]) -> None:
        super().__init__(session, warnings)
        self._provers = provers

    def plan(self) -> Json:
        plan = super().plan()
        # What was proved without keeping the proof answers another question.
        items = [{**item, "key": text_hash(f"proofs {item['key']}")} for item in plan["items"]]
        return {**plan, "items": items}

    def run(self, index: int) -> Json:
        scripts = self._provers.record_scripts()
        obligation = self._session.prove(index)
        if obligation.verdict != "proved":
            return obligation.model_dump(mode="json")
        kept: list[ScriptProof] = []
        texts: dict[str, str] = {}
        if script_digest([text_hash(script) for script in scripts]) != obligation.smtlib_sha256:
            # Parts were asked about first, in vain; the whole came last.
            scripts = scripts[-1:]
        for script in list(scripts):
            digest = text_hash(script)
            texts[digest] = script
            try:
                proof = proof_object(script, _PROOF_MS)
            except NoProof as error:
                kept.append(ScriptProof(smtlib_sha256=digest, reason=str(error)))
                continue
            proof_digest = text_hash(proof)
            texts[proof_digest] = proof
            check = ProofCheck(checker=f"{CVC5} --check-proofs", result="correct")
            kept.append(ScriptProof(smtlib_sha256=digest, proof_sha256=proof_digest, checks=[check]))
        return {**with_proofs(obligation, kept).model_dump(mode="json"), "texts": texts}


class _Comparison:
    def __init__(self, session: ComparisonSession) -> None:
        self._session = session

    def plan(self) -> Json:
        return _uncached(
            [{"environment": _place(e), "change": "unknown", "reason": ""} for e in self._session.environments]
        )

    def run(self, index: int) -> Json:
        return self._session.compare(index).model_dump(mode="json")


class _Question:
    def __init__(self, session: QuestionSession) -> None:
        self._session = session

    def plan(self) -> Json:
        environments = self._session.environments
        return _uncached([{"environment": _place(e), "answer": "unknown", "reason": ""} for e in environments])

    def run(self, index: int) -> Json:
        return self._session.answer(index).model_dump(mode="json")


class _Hygiene:
    def __init__(self, session: HygieneSession) -> None:
        self._session = session

    def plan(self) -> Json:
        return _uncached(
            [
                {"about": f"policy `{place.policy.id}` in {' / '.join(place.environment)}", "reason": ""}
                for place in self._session.places
            ]
        )

    def run(self, index: int) -> Json:
        return asdict(self._session.look(index))


class _Constitution:
    def __init__(self, session: ConstitutionSession) -> None:
        self._session = session

    def plan(self) -> Json:
        return _uncached(
            [{"about": f"the invariants in {' / '.join(e)}", "reason": ""} for e in self._session.environments]
        )

    def run(self, index: int) -> Json:
        look = self._session.look(index)
        return {**vars(look), "findings": [finding.model_dump(mode="json") for finding in look.findings]}


def _uncached(unknowns: list[Json]) -> Json:
    return {"items": [{"key": "", "unknown": unknown} for unknown in unknowns], "facts": {}}


def _place(environment: Environment) -> Json:
    principal, action, resource = environment
    return {"principal": principal, "action": action, "resource": resource}


def unproved(planned: Planned) -> Json:
    """The obligation as it stands before anybody looked: `unknown`. (Plain JSON: there may be thousands.)"""
    return {
        "id": planned.id,
        "kind": planned.kind,
        "principle_id": planned.principle_id,
        "invariant_index": planned.invariant_index,
        "policy_id": planned.policy_id,
        "environment": _place(planned.environment),
        "verdict": "unknown",
        "reason": "not attempted",
        "solver": "none",
        "milliseconds": 0.0,
    }

"""Questions put to the symbolic compiler and cvc5, with z3 as second opinion."""

import json
from collections import OrderedDict
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Literal

import acgs1_kernel as kernel

from acgs1.contracts.formal_verification import Verdict
from acgs1.services.formal_verification.adapters.kernel.cedar import Environment
from acgs1.services.formal_verification.adapters.kernel.schema_view import split_uid
from acgs1.services.formal_verification.adapters.kernel.second_opinion import SecondOpinion
from acgs1.services.formal_verification.adapters.kernel.shrink import Case
from acgs1.services.formal_verification.domain import DISAGREEMENT, UNCONFIRMED, script_digest

Json = dict[str, Any]
CheckKind = Literal[
    "always_denies",
    "implies",
    "equivalent",
    "disjoint",
    "never_errors",
    "never_matches",
    "matches_implies",
    "matches_disjoint",
]
Opinion = Literal["agrees", "unknown", "not_run"]

SYMCC = f"cedar-policy-symcc {kernel.SYMCC_VERSION}"
CVC5 = f"cvc5 {version('cvc5')}"
ABSTRACTED = f"{CVC5}, on the Boolean abstraction"
"""cvc5 refuted what the script says of its theory atoms as mere Booleans, which is weaker than the script."""


EVALUATOR = f"cedar {kernel.CEDAR_SDK_VERSION}, at a request tried before a solver was asked"


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict with its evidence. `case` is the solver's own counterexample, not yet replayed here.

    `solver` is who decided: cvc5, on the script or on its Boolean abstraction, or the symbolic compiler alone where it folded
    the question to a constant. z3's second opinion is always on the script itself. `script` is kept where a defect is to be
    reproduced.
    """

    verdict: Verdict
    reason: str | None
    case: Case | None
    smtlib_sha256: str | None
    solver: str
    milliseconds: float
    second_opinion: Opinion = "not_run"
    script: str | None = None

    @staticmethod
    def guessed(case: Case, milliseconds: float) -> "Answer":
        """`refuted` by a request that no solver was needed for."""
        return Answer("refuted", None, case, None, EVALUATOR, milliseconds)

    @staticmethod
    def not_asked(reason: str) -> "Answer":
        """`unknown`, without having asked anybody."""
        return Answer("unknown", reason, None, None, "none", 0.0)


def all_of(answers: list[Answer], note: str = "") -> Answer:
    """Proofs of parts as the proof of the whole. The script hash of several scripts is SHA-256 over theirs, by line."""
    scripts = [answer.smtlib_sha256 for answer in answers if answer.smtlib_sha256 is not None]
    asked = {answer.solver for answer in answers if answer.smtlib_sha256 is not None}
    opinions = {answer.second_opinion for answer in answers if answer.smtlib_sha256 is not None}
    return Answer(
        verdict="proved",
        reason=None,
        case=None,
        smtlib_sha256=script_digest(scripts),
        # The weakest of them speaks for all.
        solver=(ABSTRACTED if ABSTRACTED in asked else CVC5 if scripts else SYMCC) + note,
        milliseconds=sum(answer.milliseconds for answer in answers),
        second_opinion="agrees" if opinions == {"agrees"} else "unknown" if "unknown" in opinions else "not_run",
    )


class Provers:
    """Provers of the last few schemas, with their caches of compiled policies."""

    def __init__(
        self,
        *,
        solver_timeout_ms: int = 5000,
        second_opinion_ms: int = 0,
        keep: int = 4,
        cache_size: int = 8192,
    ) -> None:
        """`second_opinion_ms` bounds z3's time per proved obligation; 0 asks for none."""
        self.solver_timeout_ms = solver_timeout_ms
        self._second_opinion = SecondOpinion(second_opinion_ms) if second_opinion_ms > 0 else None
        self._keep = keep
        self._cache_size = cache_size
        self._provers: OrderedDict[str, kernel.Prover] = OrderedDict()
        self._defects: list[Json] = []
        self._scripts: list[str] | None = None

    @property
    def identity(self) -> str:
        """What a cached verdict was made by; another kernel or solver may not reuse it."""
        return f"{kernel_identity()}; {CVC5}; z3 {self._second_opinion is not None}"

    def ask(
        self,
        kind: CheckKind,
        schema: str,
        environment: Environment,
        a: str,
        b: str | None,
        policy_id: str | None = None,
        policy_id_b: str | None = None,
    ) -> Answer:
        """One obligation of the kernel (see `acgs1_kernel.Prover.check_one`)."""
        want_script = self._second_opinion is not None or self._scripts is not None
        try:
            result = self._prover(schema).check_one(
                kind, a, b, env=environment, policy_id=policy_id, policy_id_b=policy_id_b, smtlib=want_script
            )
        except (kernel.CedarValidationError, kernel.CedarParseError, kernel.ProverError) as error:
            # The caller's texts were validated before: what fails here is a text that was derived from them.
            return Answer.not_asked(f"the question cannot be put: {error}")
        verdict: Verdict = (
            "proved" if result.verdict == "proved" else "refuted" if result.verdict == "refuted" else "unknown"
        )
        answer = Answer(
            verdict=verdict,
            reason=result.reason,
            case=_case(result.counterexample) if result.counterexample is not None else None,
            smtlib_sha256=result.smtlib_sha256,
            solver=SYMCC if result.trivial else ABSTRACTED if result.abstracted else CVC5,
            milliseconds=result.compile_ms + result.solve_ms,
        )
        if self._scripts is not None and result.smtlib is not None:
            self._scripts.append(result.smtlib)
        if verdict == "proved" and self._second_opinion is not None and result.smtlib is not None:
            answer = _with_second_opinion(answer, result.smtlib, self._second_opinion)
        if answer.reason in (DISAGREEMENT, UNCONFIRMED):
            question = {"schema": schema, "environment": environment, "a": a, "b": b, "policy_id": policy_id}
            self.report(answer.reason, {"kind": kind, **question, "script": answer.script})
        return answer

    def script_sha256(
        self, kind: CheckKind, schema: str, environment: Environment, a: str, b: str | None
    ) -> str | None:
        """The hash of the script that `ask` would put to the solver; None where it would put none. Asks nobody."""
        try:
            return self._prover(schema).check_one(kind, a, b, env=environment, dry=True).smtlib_sha256
        except (kernel.CedarValidationError, kernel.CedarParseError, kernel.ProverError):
            return None

    def record_scripts(self) -> list[str]:
        """A list that from now on receives every script put to the solver, until the next call."""
        self._scripts = []
        return self._scripts

    def report(self, defect: str, reproducer: Json) -> None:
        """Keeps what is needed to reproduce a defect of a prover, until `take_defects`."""
        self._defects.append({"defect": defect, "identity": self.identity, **reproducer})

    def take_defects(self) -> list[Json]:
        """The reproducers since the last call."""
        taken, self._defects = self._defects, []
        return taken

    def _prover(self, schema: str) -> kernel.Prover:
        prover = self._provers.get(schema)
        if prover is None:
            prover = kernel.Prover(schema, solver_timeout_ms=self.solver_timeout_ms, cache_size=self._cache_size)
            self._provers[schema] = prover
            if len(self._provers) > self._keep:
                self._provers.popitem(last=False)
        self._provers.move_to_end(schema)
        return prover


def _with_second_opinion(answer: Answer, script: str, second: SecondOpinion) -> Answer:
    found, milliseconds = second.on(script)
    answer = replace(answer, milliseconds=answer.milliseconds + milliseconds)
    match found:
        case "unsat":
            return replace(answer, second_opinion="agrees")
        case "sat":
            return replace(answer, verdict="unknown", reason=DISAGREEMENT, second_opinion="unknown", script=script)
        case _:
            return replace(answer, second_opinion="unknown")


def kernel_identity() -> str:
    """The exact kernel, as certificates name it."""
    return f"acgs1_kernel {kernel.SOURCE_SHA256}; cedar {kernel.CEDAR_SDK_VERSION}; {SYMCC}"


def _case(found: kernel.Counterexample) -> Case:
    def reference(uid: str) -> dict[str, str]:
        kind, entity_id = split_uid(uid)
        return {"type": kind, "id": entity_id}

    return Case(
        principal=reference(found.principal),
        action=found.action,
        resource=reference(found.resource),
        context=json.loads(found.context),
        entities=json.loads(found.entities),
    )

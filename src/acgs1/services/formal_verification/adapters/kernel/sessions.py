"""Jobs as a worker process sees them: JSON in, JSON out."""

from typing import Any

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import EnvironmentChange, RequestEnvironment
from acgs1.services.formal_verification.adapters.kernel.comparison import ComparisonSession
from acgs1.services.formal_verification.adapters.kernel.law import Vocabularies
from acgs1.services.formal_verification.adapters.kernel.obligations import (
    Planned,
    VerificationSession,
)
from acgs1.services.formal_verification.adapters.kernel.prover import Provers, kernel_identity
from acgs1.services.formal_verification.domain import JobKind

Json = dict[str, Any]


class Sessions:
    """Opens jobs over shared caches of schemas and compiled policies."""

    def __init__(self, *, solver_timeout_ms: int, second_opinion_ms: int) -> None:
        self._vocabularies = Vocabularies()
        self._provers = Provers(solver_timeout_ms=solver_timeout_ms, second_opinion_ms=second_opinion_ms)

    def open(self, kind: JobKind, data: Json) -> "_Verification | _Comparison":
        """Raises the domain errors of the session's inputs."""
        match kind:
            case "verify":
                constitution = Constitution.model_validate(data["constitution"])
                return _Verification(
                    VerificationSession(data["policies"], constitution, self._vocabularies, self._provers)
                )
            case "compare":
                return _Comparison(
                    ComparisonSession(data["schema_text"], data["old"], data["new"], self._vocabularies, self._provers)
                )
            case _:
                raise ValueError(f"`{kind}` is no kind of job")


class _Verification:
    def __init__(self, session: VerificationSession) -> None:
        self._session = session

    def plan(self) -> Json:
        return {
            "items": [{"key": planned.key, "unknown": unproved(planned)} for planned in self._session.planned],
            "facts": {
                "kernel": kernel_identity(),
                "principles_without_invariants": self._session.principles_without_invariants,
            },
        }

    def run(self, index: int) -> Json:
        return self._session.prove(index).model_dump(mode="json")


class _Comparison:
    def __init__(self, session: ComparisonSession) -> None:
        self._session = session

    def plan(self) -> Json:
        items = [
            {
                "key": "",
                "unknown": EnvironmentChange(
                    environment=RequestEnvironment(principal=principal, action=action, resource=resource),
                    change="unknown",
                ).model_dump(mode="json"),
            }
            for principal, action, resource in self._session.environments
        ]
        return {"items": items, "facts": {}}

    def run(self, index: int) -> Json:
        return self._session.compare(index).model_dump(mode="json")


def unproved(planned: Planned) -> Json:
    """The obligation as it stands before anybody looked: `unknown`. (Plain JSON: there may be thousands.)"""
    principal, action, resource = planned.environment
    return {
        "id": planned.id,
        "kind": planned.kind,
        "principle_id": planned.principle_id,
        "invariant_index": planned.invariant_index,
        "policy_id": planned.policy_id,
        "environment": {"principal": principal, "action": action, "resource": resource},
        "verdict": "unknown",
        "reason": "not attempted",
        "solver": "none",
        "milliseconds": 0.0,
    }

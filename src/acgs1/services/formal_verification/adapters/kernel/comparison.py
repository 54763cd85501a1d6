"""What changes, in meaning, from one policy set to another."""

from dataclasses import dataclass
from typing import Literal

from acgs1.contracts.formal_verification import Counterexample, EnvironmentChange
from acgs1.services.formal_verification.adapters.kernel import explain
from acgs1.services.formal_verification.adapters.kernel.cedar import Environment, PolicyTexts, Slice
from acgs1.services.formal_verification.adapters.kernel.decisions import Decisions, why_denied
from acgs1.services.formal_verification.adapters.kernel.examples import counterexample, place
from acgs1.services.formal_verification.adapters.kernel.law import Vocabularies
from acgs1.services.formal_verification.adapters.kernel.prover import Provers
from acgs1.services.formal_verification.adapters.kernel.shrink import Case, shrink
from acgs1.services.formal_verification.domain import CONTRADICTION, Change


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two sets, and what of it can matter in the environment looked at."""

    name: Literal["old", "new"]
    whole: PolicyTexts
    slice: Slice


class ComparisonSession:
    """Old against new, one request environment at a time. The decisions compared are those of the decision point: a request
    for which some policy cannot be evaluated is denied."""

    def __init__(self, schema: str, old: str, new: str, vocabularies: Vocabularies, provers: Provers) -> None:
        """Raises InvalidConstitution for the schema, InvalidPolicies for either set."""
        self._vocabulary = vocabularies.of(schema)
        self._provers = provers
        self._decisions = Decisions(schema, provers)
        self._old = self._vocabulary.policies(old, "old")
        self._new = self._vocabulary.policies(new, "new")

    @property
    def environments(self) -> list[Environment]:
        return self._vocabulary.environments

    def compare(self, index: int) -> EnvironmentChange:
        """The change in environment number `index`, with a witness for each direction in which there is one."""
        environment = self._vocabulary.environments[index]
        old = _Side("old", self._old, self._old.in_environment(environment))
        new = _Side("new", self._new, self._new.in_environment(environment))
        if old.slice.text == new.slice.text:
            return EnvironmentChange(environment=place(environment), change="unchanged")
        newly_allowed = self._allowed_only_by(environment, new, old)
        newly_denied = self._allowed_only_by(environment, old, new)
        change: Change
        match (newly_allowed, newly_denied):
            case (str(reason), _) | (_, str(reason)):
                shown = {
                    name: found
                    for name, found in (("newly_allowed", newly_allowed), ("newly_denied", newly_denied))
                    if isinstance(found, Counterexample)
                }
                return EnvironmentChange(environment=place(environment), change="unknown", reason=reason, **shown)
            case (None, None):
                change = "unchanged"
            case (_, None):
                change = "widens"
            case (None, _):
                change = "narrows"
            case _:
                change = "both"
        return EnvironmentChange(
            environment=place(environment), change=change, newly_allowed=newly_allowed, newly_denied=newly_denied
        )

    def _allowed_only_by(self, environment: Environment, more: _Side, less: _Side) -> Counterexample | str | None:
        """A request that `more` allows and `less` denies; None where it is proved that there is none, else why that is
        not known."""
        a, b = (self._decisions.text(side.slice, environment) for side in (more, less))
        answer = self._provers.ask("implies", self._vocabulary.schema, environment, a, b)
        if answer.verdict == "proved":
            return None
        if answer.verdict == "unknown" or answer.case is None:
            return answer.reason or "the prover gave no example"

        def shows(case: Case) -> bool:
            one = self._vocabulary.evaluator.decide(more.slice.text, "", case)
            two = self._vocabulary.evaluator.decide(less.slice.text, "", case)
            return one is not None and two is not None and one.allowed and not two.allowed

        if not shows(answer.case):
            self._provers.report(CONTRADICTION, {"schema": self._vocabulary.schema, "a": a, "b": b})
            return CONTRADICTION
        return self._witness(shrink(answer.case, shows), more, less)

    def _witness(self, case: Case, more: _Side, less: _Side) -> Counterexample:
        allowed = self._vocabulary.evaluator.decide(more.whole.text, "", case)
        denied = self._vocabulary.evaluator.decide(less.whole.text, "", case)
        if allowed is None or denied is None:
            raise AssertionError("INVARIANT: a witness has been replayed")
        permits = sorted(allowed.reasons)
        words = (
            f"{explain.can(case)} under the {more.name} set ({explain.policies_words(permits, '')}), "
            f"not under the {less.name} one: {why_denied(denied, case, less.whole.policies)}."
        )
        by_old_then_new = [denied, allowed] if more.name == "new" else [allowed, denied]
        return counterexample(case, by_old_then_new, words, because=allowed)

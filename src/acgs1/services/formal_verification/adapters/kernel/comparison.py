"""What changes, in meaning, from one policy set to another."""

from acgs1.contracts.formal_verification import Counterexample, EnvironmentChange, RequestEnvironment
from acgs1.services.formal_verification.adapters.kernel import explain
from acgs1.services.formal_verification.adapters.kernel.cedar import Environment
from acgs1.services.formal_verification.adapters.kernel.law import Vocabularies
from acgs1.services.formal_verification.adapters.kernel.prover import Answer, Provers
from acgs1.services.formal_verification.adapters.kernel.shrink import Case, shrink
from acgs1.services.formal_verification.domain import Change


class ComparisonSession:
    """Old against new, one request environment at a time. The decisions compared are those of the decision point."""

    def __init__(self, schema: str, old: str, new: str, vocabularies: Vocabularies, provers: Provers) -> None:
        """Raises InvalidConstitution for the schema, InvalidPolicies for either set."""
        self._vocabulary = vocabularies.of(schema)
        self._provers = provers
        self._old = self._vocabulary.policies(old, "old")
        self._new = self._vocabulary.policies(new, "new")

    @property
    def environments(self) -> list[Environment]:
        return self._vocabulary.environments

    def compare(self, index: int) -> EnvironmentChange:
        """The change in environment number `index`, with a witness for each direction in which there is one."""
        environment = self._vocabulary.environments[index]
        principal, action, resource = environment
        place = RequestEnvironment(principal=principal, action=action, resource=resource)
        old = self._old.in_environment(environment).text
        new = self._new.in_environment(environment).text
        if old == new:
            return EnvironmentChange(environment=place, change="unchanged")
        widened, newly_allowed = self._direction(environment, new, old, self._new.text, self._old.text, "new", "old")
        narrowed, newly_denied = self._direction(environment, old, new, self._old.text, self._new.text, "old", "new")
        change: Change
        match (widened, narrowed):
            case (None, _) | (_, None):
                change = "unknown"
            case (True, True):
                change = "both"
            case (True, False):
                change = "widens"
            case (False, True):
                change = "narrows"
            case _:
                change = "unchanged"
        return EnvironmentChange(
            environment=place, change=change, newly_allowed=newly_allowed, newly_denied=newly_denied
        )

    def _direction(
        self,
        environment: Environment,
        more: str,
        less: str,
        more_text: str,
        less_text: str,
        more_name: str,
        less_name: str,
    ) -> tuple[bool | None, Counterexample | None]:
        """Whether `more` allows a request that `less` denies (None: not known), and such a request."""
        answer: Answer = self._provers.ask("implies", self._vocabulary.schema, environment, more, less)
        if answer.verdict == "proved":
            return False, None
        if answer.verdict == "unknown" or answer.case is None:
            return None, None

        def shows(case: Case) -> bool:
            one = self._vocabulary.evaluator.decide(more, "", case)
            two = self._vocabulary.evaluator.decide(less, "", case)
            return one is not None and two is not None and one.allowed and not two.allowed

        if not shows(answer.case):
            return None, None
        case = shrink(answer.case, shows)
        return True, self._witness(case, more_text, less_text, more_name, less_name)

    def _witness(self, case: Case, more: str, less: str, more_name: str, less_name: str) -> Counterexample:
        allowed = self._vocabulary.evaluator.decide(more, "", case)
        denied = self._vocabulary.evaluator.decide(less, "", case)
        if allowed is None or denied is None:
            raise AssertionError("INVARIANT: a witness has been replayed")
        permits = sorted(allowed.reasons)
        forbids = sorted(denied.reasons)
        why = f"denied by {explain.policies_words(forbids, '')}" if forbids else "no policy permits it"
        words = (
            f"{explain.can(case)} under the {more_name} set ({explain.policies_words(permits, '')}), "
            f"not under the {less_name} one: {why}."
        )
        return Counterexample(
            principal=explain.uid(case.principal),
            action=case.action,
            resource=explain.uid(case.resource),
            context=case.context,
            entities=case.entities,
            decisions=["deny", "allow"] if more_name == "new" else ["allow", "deny"],
            determining_policies=permits,
            explanation=words,
        )

"""Questions: can it ever be allowed, or denied?"""

import acgs1_kernel as kernel

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import EnvironmentAnswer, NewQuestion
from acgs1.contracts.guards import InvariantTextError, check_condition, scope_text
from acgs1.core.errors import ErrorItem
from acgs1.services.formal_verification.adapters.kernel import explain
from acgs1.services.formal_verification.adapters.kernel.cedar import (
    PolicyTexts,
    Slice,
    items_of,
)
from acgs1.services.formal_verification.adapters.kernel.decisions import Decisions, why_denied
from acgs1.services.formal_verification.adapters.kernel.examples import bound, place, shown
from acgs1.services.formal_verification.adapters.kernel.law import (
    Vocabularies,
    first_of,
)
from acgs1.services.formal_verification.adapters.kernel.prover import Provers
from acgs1.services.formal_verification.adapters.kernel.shrink import Case, shrink
from acgs1.services.formal_verification.domain import CONTRADICTION
from acgs1.services.formal_verification.errors import InvalidConstitution, InvalidPolicies


class QuestionSession:
    """Can it ever be allowed (or denied)? One answer per request environment in scope."""

    def __init__(self, question: NewQuestion, vocabularies: Vocabularies, provers: Provers) -> None:
        """Raises InvalidConstitution, InvalidPolicies."""
        self._vocabulary = vocabularies.of(question.schema_text)
        self._provers = provers
        self._decisions = Decisions(question.schema_text, provers)
        self._question = question
        self._policies = self._vocabulary.policies(question.policies)
        self._guards = self._guards_of(question.constitution)
        try:
            for text in (question.when, *question.assume):
                check_condition(text)
            self.environments = self._vocabulary.in_scope(question)
            self._check(question)
        except InvariantTextError as error:
            raise InvalidPolicies(f"the question: {error}", items=(ErrorItem(str(error), "/when"),)) from None

    def _check(self, question: NewQuestion) -> None:
        """Raises InvalidPolicies where a condition does not fit the schema. One that can never hold does: it is answered."""
        for name, text in (("when", question.when), *((f"assume/{i}", t) for i, t in enumerate(question.assume))):
            policy = f"permit ({scope_text(question)}) when {{\n{text}\n}};"
            try:
                kernel.validate_policies(self._vocabulary.schema, policy, "question")
            except (kernel.CedarParseError, kernel.CedarValidationError) as error:
                # The condition begins on line 2 of the policy.
                items = items_of(error, f"/{name}", first_line=2)
                if not all("is impossible" in item.detail for item in items):
                    raise InvalidPolicies(f"the question: {first_of(items)}", items=items) from None

    def _guards_of(self, constitution: Constitution | None) -> PolicyTexts:
        if constitution is None:
            return PolicyTexts("", "guards", self._vocabulary.scopes)
        if constitution.schema_text != self._question.schema_text:
            raise InvalidConstitution("the question's schema is not the constitution's; give the same text for both")
        return self._vocabulary.law(constitution).guards

    def answer(self, index: int) -> EnvironmentAnswer:
        environment = self.environments[index]
        policies = self._policies.in_environment(environment)
        guards = self._guards.in_environment(environment)
        condition = " && ".join(f"(\n{text}\n)" for text in (*self._question.assume, self._question.when))
        wanted = bound(environment, f"when {{ {condition} }}")
        allow = self._question.decision == "allow"
        in_force = self._decisions.text(Slice([*policies.policies, *guards.policies]), environment)
        # What is wanted is put as a permit, never as its negation: where the condition cannot be evaluated, it does not hold.
        answer = (
            self._provers.ask("disjoint", self._vocabulary.schema, environment, in_force, wanted)
            if allow
            else self._provers.ask("implies", self._vocabulary.schema, environment, wanted, in_force)
        )
        if answer.verdict == "proved":
            return EnvironmentAnswer(environment=place(environment), answer="no")
        if answer.verdict == "unknown" or answer.case is None:
            return EnvironmentAnswer(environment=place(environment), answer="unknown", reason=answer.reason)

        def shows(case: Case) -> bool:
            asked = self._vocabulary.evaluator.decide(wanted, "", case)
            decided = self._vocabulary.evaluator.decide(policies.text, guards.text, case)
            return asked is not None and decided is not None and asked.allowed and decided.allowed == allow

        if not shows(answer.case):
            question = {"a": in_force, "b": wanted, "decision": self._question.decision}
            self._provers.report(CONTRADICTION, {"schema": self._vocabulary.schema, **question})
            return EnvironmentAnswer(environment=place(environment), answer="unknown", reason=CONTRADICTION)
        case = shrink(answer.case, shows)
        facts = explain.facts(case, self._question.when, *self._question.assume)
        words = f"{explain.can(case)}{facts}." if allow else f"{explain.cannot(case)}{facts}{self._failure(case)}."
        example = shown(self._vocabulary, case, self._policies.text, self._guards.text, words)
        return EnvironmentAnswer(environment=place(environment), answer="yes", example=example)

    def _failure(self, case: Case) -> str:
        """That it is denied because of a policy that cannot be evaluated, where that is why."""
        decision = self._vocabulary.evaluator.decide(self._policies.text, self._guards.text, case)
        if decision is None or not decision.errored:
            return ""
        return f": {why_denied(decision, case, {**self._policies.policies, **self._guards.policies})}"

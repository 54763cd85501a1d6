"""Requests as examples."""

from acgs1.contracts.formal_verification import Counterexample
from acgs1.services.formal_verification.adapters.kernel import explain
from acgs1.services.formal_verification.adapters.kernel.cedar import Environment
from acgs1.services.formal_verification.adapters.kernel.law import Vocabulary
from acgs1.services.formal_verification.adapters.kernel.shrink import Case


def bound(environment: Environment, condition: str, name: str = "acgs:bound") -> str:
    """A permit about one environment alone; `condition` is its `when` or `unless` clause."""
    principal, action, resource = environment
    head = f"principal is {principal}, action == {action}, resource is {resource}"
    return f'@id("{name}")\npermit ({head}) {condition};'


def shown(vocabulary: Vocabulary, case: Case, policies: str, guards: str, words: str) -> Counterexample:
    """A request as an example, with the decision point's own decision on it."""
    decision = vocabulary.evaluator.decide(policies, guards, case)
    if decision is None:
        raise AssertionError("INVARIANT: an example has been replayed")
    return Counterexample(
        principal=explain.uid(case.principal),
        action=case.action,
        resource=explain.uid(case.resource),
        context=case.context,
        entities=case.entities,
        decisions=["allow" if decision.allowed else "deny"],
        determining_policies=sorted({*decision.reasons, *decision.guard}),
        explanation=words,
    )

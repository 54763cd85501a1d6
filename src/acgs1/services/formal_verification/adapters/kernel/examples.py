"""Requests as examples, and policies that bound what is asked to one request environment."""

from collections.abc import Sequence
from typing import Literal

import acgs1_kernel as kernel

from acgs1.contracts.formal_verification import Counterexample, RequestEnvironment
from acgs1.services.formal_verification.adapters.kernel import explain
from acgs1.services.formal_verification.adapters.kernel.cedar import Environment
from acgs1.services.formal_verification.adapters.kernel.law import Vocabulary
from acgs1.services.formal_verification.adapters.kernel.shrink import Case


def bound(
    environment: Environment,
    condition: str,
    name: str = "acgs:bound",
    effect: Literal["permit", "forbid"] = "permit",
) -> str:
    """A policy about one environment alone; `condition` is its `when` or `unless` clause."""
    principal, action, resource = environment
    head = f"principal is {principal}, action == {action}, resource is {resource}"
    return f'@id("{name}")\n{effect} ({head}) {condition};'


def place(environment: Environment) -> RequestEnvironment:
    """The environment as answers name it."""
    principal, action, resource = environment
    return RequestEnvironment(principal=principal, action=action, resource=resource)


def counterexample(
    case: Case,
    decisions: Sequence[kernel.Decision],
    words: str,
    *,
    because: kernel.Decision | None = None,
    paired: Counterexample | None = None,
) -> Counterexample:
    """A request and what was decided on it. `because`: the decision whose policies are named, the first where none is given."""
    because = because or decisions[0]
    return Counterexample(
        principal=explain.uid(case.principal),
        action=case.action,
        resource=explain.uid(case.resource),
        context=case.context,
        entities=case.entities,
        decisions=["allow" if decision.allowed else "deny" for decision in decisions],
        determining_policies=sorted({*because.reasons, *because.guard}),
        paired=paired,
        explanation=words,
    )


def shown(vocabulary: Vocabulary, case: Case, policies: str, guards: str, words: str) -> Counterexample:
    """A request as an example, with the decision point's own decision on it."""
    decision = vocabulary.evaluator.decide(policies, guards, case)
    if decision is None:
        raise AssertionError("INVARIANT: an example has been replayed")
    return counterexample(case, [decision], words)

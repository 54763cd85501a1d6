"""Small edits that make a refuted obligation hold; each is proved before it is suggested."""

from collections.abc import Callable

import acgs1_kernel as kernel

from acgs1.contracts.constitution import Always, Never, Scope
from acgs1.contracts.formal_verification import Suggestion
from acgs1.contracts.guards import action_uid
from acgs1.services.formal_verification.adapters.kernel.cedar import CedarPolicy, Slice
from acgs1.services.formal_verification.adapters.kernel.prover import Answer
from acgs1.services.formal_verification.adapters.kernel.shrink import Case

_ROUNDS = 8


def forbidding_edit(
    invariant: Never,
    policies: Slice,
    first: list[str],
    prove: Callable[[str], Answer],
    responsible: Callable[[str, Case], list[str]],
    schema: str,
) -> Suggestion | None:
    """An exception for the policies that let a forbidden request through, beginning with `first`.

    `prove(policies)` asks whether the ceiling holds; `responsible(policies, case)` names the permits behind an allow.
    """
    clause = f"unless {{ {_in_scope(invariant)}({invariant.when.strip()}) }}"
    edited: list[str] = []
    culprits = first
    for _ in range(_ROUNDS):
        fresh = [policy_id for policy_id in culprits if policy_id not in edited]
        if not fresh:
            return None
        edited += fresh
        changed = [_with_clause(p, clause) if p.id in edited else p.text for p in policies.policies]
        text = "\n".join(changed)
        try:
            kernel.validate_policies(schema, text)
        except (kernel.CedarParseError, kernel.CedarValidationError):
            return None
        answer = prove(text)
        if answer.verdict == "proved":
            return Suggestion(policy_ids=sorted(edited), add=clause)
        if answer.case is None:
            return None
        culprits = responsible(text, answer.case)
    return None


def permitting_edit(invariant: Always, head: str, prove: Callable[[str], Answer]) -> Suggestion | None:
    """A policy that permits what the invariant demands, where no forbid stands against it."""
    policy = f"permit ({head}) when {{ {invariant.when.strip()} }};"
    answer = prove(f'@id("acgs:suggestion")\n{policy}')
    return Suggestion(policy_ids=[], add=policy) if answer.verdict == "proved" else None


def _with_clause(policy: CedarPolicy, clause: str) -> str:
    return f"{policy.text.removesuffix(';')}\n{clause};"


def _in_scope(scope: Scope) -> str:
    """The scope as a condition, so that the clause changes nothing outside of it."""
    parts: list[str] = []
    if scope.principal is not None:
        parts.append(f"principal is {scope.principal}")
    if scope.actions:
        parts.append(f"action in [{', '.join(action_uid(name) for name in scope.actions)}]")
    if scope.resource is not None:
        parts.append(f"resource is {scope.resource}")
    return "".join(f"{part} && " for part in parts)

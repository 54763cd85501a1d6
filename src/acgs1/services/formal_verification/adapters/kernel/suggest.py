"""Small edits that make a refuted obligation hold; each is proved before it is suggested.

Fewest policies first. Only `always`, which demands more, is ever answered by an edit that permits more.
"""

import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final, cast

from acgs1.contracts.constitution import Always, Never, Scope
from acgs1.contracts.formal_verification import Suggestion
from acgs1.contracts.guards import action_uid
from acgs1.core.hashing import text_hash
from acgs1.services.formal_verification.adapters.kernel.cedar import CedarPolicy, Slice
from acgs1.services.formal_verification.adapters.kernel.forms import Json, form_of, is_valid, text_of
from acgs1.services.formal_verification.adapters.kernel.prover import Answer
from acgs1.services.formal_verification.adapters.kernel.shrink import Case

_ROUNDS = 8
_MOST_ALONE: Final = 8
# Widest first: the edit that changes least.
_BOUNDS: Final = tuple(10**digits for digits in (18, 15, 12, 9, 6, 3))

_DOTTED: Final = re.compile(r"\w+(\.(?!(if|then|else|in|is|has|like|true|false)\b)[A-Za-z_]\w*)+", re.ASCII)
_ARITHMETIC: Final = frozenset({"+", "-", "*", "neg"})

_ADDED: Final = "acgs:suggestion"

NeverFails = Callable[[str, str], bool]
"""Whether the policy with this id and text is proved to be evaluated on every request."""


def forbidding_edit(
    invariant: Never,
    policies: Slice,
    first: list[str],
    prove: Callable[[str], Answer],
    responsible: Callable[[str, Case], list[str]],
    never_fails: NeverFails,
    schema: str,
) -> Suggestion | None:
    """An exception for the policies that let a forbidden request through, beginning with `first`.

    `prove(policies)` asks whether the ceiling holds; `responsible(policies, case)` names the permits behind an allow.
    """
    clause = f"unless {{ {_in_scope(invariant)}({invariant.when.strip()}) }}"
    return _exceptions(clause, policies, first, prove, responsible, never_fails, schema)


def permitting_edit(
    invariant: Always,
    head: str,
    policies: Slice,
    first: list[str],
    prove: Callable[[str], Answer],
    denying: Callable[[str, Case], list[str]],
    never_fails: NeverFails,
    schema: str,
) -> Suggestion | None:
    """A policy that permits what the invariant demands; or, where forbids stand against it, beginning with `first`, an exception for
    them.

    `prove(policies)` asks whether the floor is reached; `denying(policies, case)` names the forbids behind a deny.
    """
    policy = f"permit ({head}) when {{ {invariant.when.strip()} }};"
    added = f'@id("{_ADDED}")\n{policy}'
    if prove(f"{policies.text}\n{added}").verdict == "proved" and never_fails(_ADDED, added):
        return Suggestion(policy_ids=[], edit="policy", add=policy)
    clause = f"unless {{ {_in_scope(invariant)}({invariant.when.strip()}) }}"
    return _exceptions(clause, policies, first, prove, denying, never_fails, schema)


def bounding_edit(policy: CedarPolicy, prove: Callable[[str], Answer], schema: str) -> Suggestion | None:
    """Bounds on the numbers that a policy calculates with, within which no result is out of range. Beyond them a permit does not
    apply and a forbid does: what the decision point, which denies where a policy fails, does with such a request anyway.

    `prove(policy)` asks whether it can be evaluated on every request.
    """
    form = form_of(policy.text)
    paths = sorted({path for condition in form["conditions"] for path in _calculated(condition["body"])})
    if not paths:
        return None
    for most in _BOUNDS:
        within = " && ".join(f"{path} >= -{most} && {path} <= {most}" for path in paths)
        if policy.effect == "permit":
            changed = _text({**form, "conditions": [_when(within), *form["conditions"]]})
            suggestion = Suggestion(policy_ids=[policy.id], edit="prepend", add=f"when {{ {within} }}")
        else:
            conditions = " && ".join(_as_condition(form, index) for index in range(len(form["conditions"])))
            changed = _text({**form, "conditions": [_when(f"!({within}) || ({conditions})")]})
            suggestion = Suggestion(policy_ids=[policy.id], edit="replace", add=changed)
        if is_valid(schema, changed) and prove(changed).verdict == "proved":
            return suggestion
    return None


def blinding_edit(
    reading: list[CedarPolicy],
    paths: tuple[str, ...],
    prove: Callable[[dict[str, CedarPolicy | None]], Answer],
    schema: str,
) -> Suggestion | None:
    """Policies that do without what must make no difference: a permit that reads it is left out, a forbid loses the clauses that do,
    so that nothing is permitted that was not. One policy of `reading` alone, if that suffices; else all of them.

    `prove(changes)` asks whether the property holds with policies changed by id, or left out (None).
    """
    changes: dict[str, CedarPolicy | None] = {}
    for policy in reading:
        changed = None if policy.effect == "permit" else _without_clauses(policy, paths)
        if changed is not None and not is_valid(schema, changed.text):
            return None
        changes[policy.id] = changed
    attempts = ([policy_id] for policy_id in [*changes][:_MOST_ALONE])
    for attempt in chain(attempts, [[*changes]] if len(changes) > 1 else []):
        chosen = {policy_id: changes[policy_id] for policy_id in attempt}
        if prove(chosen).verdict == "proved":
            texts = [policy.text for policy in chosen.values() if policy is not None]
            return Suggestion(policy_ids=sorted(chosen), edit="replace", add="\n".join(texts))
    return None


def _exceptions(
    clause: str,
    policies: Slice,
    first: list[str],
    prove: Callable[[str], Answer],
    responsible: Callable[[str, Case], list[str]],
    never_fails: NeverFails,
    schema: str,
) -> Suggestion | None:
    """`clause` at the end of `first`, and of whatever policies are then still responsible."""
    edited: list[str] = []
    culprits = first
    for _ in range(_ROUNDS):
        fresh = [policy_id for policy_id in culprits if policy_id not in edited]
        if not fresh:
            return None
        edited += fresh
        changed = {p.id: _with_clause(p, clause) if p.id in edited else p.text for p in policies.policies}
        text = "\n".join(changed.values())
        if not is_valid(schema, text):
            return None
        answer = prove(text)
        if answer.verdict == "proved":
            # A clause that can fail would mend one obligation and break another.
            mends = all(never_fails(policy_id, changed[policy_id]) for policy_id in edited)
            return Suggestion(policy_ids=sorted(edited), add=clause) if mends else None
        if answer.case is None:
            return None
        culprits = responsible(text, answer.case)
    return None


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


# --- Cedar's JSON form ---


def _text(form: Json) -> str:
    return text_of({form.get("annotations", {}).get("id", "edited"): form}).strip()


def _when(condition: str) -> Json:
    return form_of(f"permit (principal, action, resource) when {{ {condition} }};")["conditions"][0]


def _as_condition(form: Json, index: int) -> str:
    """One clause alone, as Cedar writes it: in brackets, `unless` turned into a condition that must not hold."""
    alone = _text({**form_of("permit (principal, action, resource);"), "conditions": [form["conditions"][index]]})
    _, _, condition = alone.partition("when")
    return f"({condition.strip().removesuffix(';').strip().removeprefix('{').removesuffix('}').strip()})"


def _without_clauses(policy: CedarPolicy, paths: tuple[str, ...]) -> CedarPolicy:
    form = form_of(policy.text)
    kept = [c for c in form["conditions"] if not any(_within(read, paths) for read in _reads(c["body"]))]
    text = _text({**form, "conditions": kept})
    return CedarPolicy(policy.id, policy.effect, text, text_hash(text), policy.line)


def _within(read: str, paths: tuple[str, ...]) -> bool:
    """Whether an attribute is one of `paths`, a part of it, or holds it."""
    return "." in read and any(f"{read}.".startswith(f"{path}.") or f"{path}.".startswith(f"{read}.") for path in paths)


def _calculated(body: object) -> Iterator[str]:
    """The attributes among the operands of arithmetic, where Cedar can write them with dots."""
    for operator, operands in _parts(body):
        yield from (filter(_DOTTED.fullmatch, _reads(operands)) if operator in _ARITHMETIC else _calculated(operands))


def _reads(body: object) -> Iterator[str]:
    """The longest attribute paths in an expression, as Cedar writes them."""
    if (path := _path(body)) is not None:
        yield path
        return
    for _, part in _parts(body):
        yield from _reads(part)


def _parts(body: object) -> Iterator[tuple[str, object]]:
    if isinstance(body, dict):
        yield from cast("Json", body).items()
    elif isinstance(body, list):
        yield from (("", each) for each in cast("list[object]", body))


def _path(body: object) -> str | None:
    """`context.a.b` of what Cedar's JSON form nests; also of `has`, which reads the attribute too."""
    if not isinstance(body, dict):
        return None
    node = cast("Json", body)
    if "Var" in node:
        return node["Var"]
    inner = node.get(".") or node.get("has")
    above = _path(inner["left"]) if inner is not None and "attr" in inner else None
    return None if inner is None or above is None else f"{above}.{inner['attr']}"

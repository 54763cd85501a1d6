"""Repairing a policy set from the counterexamples of a verification report (counterexample-guided synthesis).

A `never` that was refuted gets a forbid from the invariant itself. An `always` gets a permit, or the forbids that stood in its way are
relaxed; where a guard of the constitution forbids the same request, the principles contradict each other and no policy can help. A policy
that can err is confined to the range in which it cannot. `indifferent_to` and `monotone_in` are left to people: a machine that picks
which of two decisions was meant would be writing the constitution.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from acgs1.contracts.constitution import Always, Constitution, Never, Principle, Scope
from acgs1.contracts.formal_verification import Counterexample, Obligation
from acgs1.contracts.governance_synthesis import RepairNote
from acgs1.contracts.guards import InvariantTextError, action_uid, check_condition, scope_text
from acgs1.services.governance_synthesis.domain.rules import policy_text
from acgs1.services.governance_synthesis.domain.vocabulary import cedar_string

Est = dict[str, Any]
"""Cedar's JSON form of a policy or an expression."""

_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class CedarPolicy:
    """One policy of the draft: its own text and its JSON form."""

    id: str
    effect: Literal["permit", "forbid"]
    text: str
    est: Est


class Workbench(Protocol):
    """What a repair asks the evaluator and the validator."""

    def guards_on(self, counterexample: Counterexample) -> list[str]:
        """The principles whose guards forbid this request."""
        ...

    def fits(self, policies: str) -> bool:
        """Whether the policies validate against the schema."""
        ...


@dataclass(frozen=True, slots=True)
class Repaired:
    policies: str
    notes: list[RepairNote]


@dataclass(frozen=True, slots=True)
class _Refuted:
    """The refuted obligations about one invariant, or about one policy's freedom from errors."""

    kind: str
    principle_id: str | None
    invariant_index: int | None
    policy_id: str | None
    obligations: tuple[Obligation, ...]

    @property
    def counterexamples(self) -> list[Counterexample]:
        return [o.counterexample for o in self.obligations if o.counterexample is not None]

    def note(self, change: str, *, changed: Iterable[str] = ()) -> RepairNote:
        policy_ids = list(changed)
        return RepairNote(
            principle_id=self.principle_id,
            obligation_ids=[o.id for o in self.obligations],
            change=change,
            repaired=bool(policy_ids),
            policy_ids=policy_ids,
            counterexample=next(iter(self.counterexamples), None),
        )


def repair(
    constitution: Constitution, policies: Iterable[CedarPolicy], obligations: Iterable[Obligation], bench: Workbench
) -> Repaired:
    """The repaired policy set and one note per refuted invariant or policy. No note is `repaired` when nothing could be done."""
    repairs = _Repairs(constitution, policies, bench)
    notes = [repairs.one(refuted) for refuted in _grouped(obligations)]
    return Repaired("\n".join(repairs.texts.values()), notes)


def _grouped(obligations: Iterable[Obligation]) -> list[_Refuted]:
    groups: dict[tuple[str, str | None, int | None, str | None], list[Obligation]] = {}
    for o in obligations:
        if o.verdict == "refuted":
            # Of an invariant's obligations, one per request environment, the policy is the same: none.
            policy_id = o.policy_id if o.kind == "never_errors" else None
            groups.setdefault((o.kind, o.principle_id, o.invariant_index, policy_id), []).append(o)
    return [_Refuted(*key, tuple(members)) for key, members in groups.items()]


class _Repairs:
    def __init__(self, constitution: Constitution, policies: Iterable[CedarPolicy], bench: Workbench) -> None:
        self._principles = {p.id: p for p in constitution.principles}
        self._policies = {p.id: p for p in policies}
        self._bench = bench
        self.texts = {p.id: p.text for p in self._policies.values()}

    def one(self, refuted: _Refuted) -> RepairNote:
        if refuted.kind == "never_errors":
            return self._confine(refuted)
        principle = self._principles.get(refuted.principle_id or "")
        index = refuted.invariant_index
        if principle is None or index is None or index >= len(principle.invariants):
            return refuted.note("the constitution has no such invariant")
        invariant = principle.invariants[index]
        try:
            match invariant:
                case Never():
                    return self._forbid(refuted, principle, index, invariant)
                case Always():
                    return self._allow(refuted, principle, index, invariant)
                case _:
                    return refuted.note(
                        f"a person has to say which of the two decisions `{principle.id}` means; the policies "
                        f"{_names(i for c in refuted.counterexamples for i in c.determining_policies)} made them differ"
                    )
        except InvariantTextError as error:
            return refuted.note(f"invariant {index} of `{principle.id}` is not one Cedar condition: {error}")

    def _forbid(self, refuted: _Refuted, principle: Principle, index: int, invariant: Never) -> RepairNote:
        policy_id = f"{principle.id}.never.{index}"
        if policy_id in self.texts:
            return refuted.note(f"`{policy_id}` forbids this already; its condition must be able to fail")
        self._add("forbid", policy_id, principle, invariant, invariant.when)
        return refuted.note(f"forbid what `{principle.id}` says must never be allowed", changed=[policy_id])

    def _allow(self, refuted: _Refuted, principle: Principle, index: int, invariant: Always) -> RepairNote:
        against = sorted({g for c in refuted.counterexamples for g in self._bench.guards_on(c)})
        if against:
            return refuted.note(
                f"`{principle.id}` promises what {_names(against)} forbids: the principles contradict each other, and only "
                "an amendment can settle that"
            )
        blocking = {i for c in refuted.counterexamples for i in c.determining_policies}
        changed: list[str] = []
        for policy_id in sorted(blocking & self.texts.keys()):
            self.texts[policy_id] = _with_exception(self.texts[policy_id], _condition_in_scope(invariant))
            changed.append(policy_id)
        if changed:
            return refuted.note(f"{_names(changed)} no longer forbids what `{principle.id}` promises", changed=changed)
        policy_id = f"{principle.id}.always.{index}"
        if policy_id in self.texts:
            return refuted.note(f"`{policy_id}` permits this already; its condition must be able to fail")
        self._add("permit", policy_id, principle, invariant, invariant.when)
        return refuted.note(f"permit what `{principle.id}` promises", changed=[policy_id])

    def _add(self, effect: str, policy_id: str, principle: Principle, scope: Scope, condition: str) -> None:
        check_condition(condition)
        annotations = {"id": policy_id, "principle": principle.id}
        self.texts[policy_id] = policy_text(effect, annotations, scope_text(scope), f" when {{\n{condition}\n}}")

    def _confine(self, refuted: _Refuted) -> RepairNote:
        """Confine a policy to the range in which its arithmetic cannot overflow; what lies outside a forbid's range is forbidden."""
        policy = self._policies.get(refuted.policy_id or "")
        if policy is None:
            return refuted.note(
                f"`{refuted.policy_id}` is not a policy of this draft: the constitution's own text can fail"
            )
        in_range = _safe_range(policy.est)
        if in_range is None:
            return refuted.note(f"`{policy.id}` can fail, and not by arithmetic on attributes alone; rewrite it")
        confined = {policy.id: _with_first_condition(self.texts[policy.id], in_range)}
        if policy.effect == "forbid":
            beside = f"{policy.id}.range"
            annotations = {**policy.est.get("annotations", {}), "id": beside}
            confined[beside] = _renamed(policy, annotations, f" unless {{ {in_range} }}")
        if not self._bench.fits("\n".join(confined.values())):
            return refuted.note(f"`{policy.id}` can fail on an attribute that may be absent; test it with `has` first")
        self.texts.update(confined)
        return refuted.note(f"confine `{policy.id}` to `{in_range}`, where it cannot fail", changed=confined)


def _names(ids: Iterable[str]) -> str:
    return ", ".join(f"`{i}`" for i in dict.fromkeys(ids)) or "(none)"


def _condition_in_scope(invariant: Always) -> str:
    """The whole of an `always` as one expression."""
    check_condition(invariant.when)
    parts: list[str] = []
    if invariant.principal is not None:
        parts.append(f"principal is {invariant.principal}")
    if invariant.actions:
        parts.append(f"action in [{', '.join(action_uid(a) for a in invariant.actions)}]")
    if invariant.resource is not None:
        parts.append(f"resource is {invariant.resource}")
    return " && ".join([*parts, f"(\n{invariant.when}\n)"])


def _with_exception(text: str, condition: str) -> str:
    body = text.rstrip().removesuffix(";")
    return f"{body}\nunless {{ {condition} }};\n"


def _with_first_condition(text: str, condition: str) -> str:
    end = _end_of_scope(text)
    return f"{text[:end]} when {{ {condition} }}{text[end:]}"


def _renamed(policy: CedarPolicy, annotations: dict[str, str], clauses: str) -> str:
    """A policy of the same effect and scope."""
    end = _end_of_scope(policy.text)
    start = policy.text.rindex(policy.effect, 0, end)
    head = "\n".join(f"@{name}({cedar_string(value)})" for name, value in annotations.items())
    return f"{head}\n{policy.text[start:end]}{clauses};\n"


def _end_of_scope(text: str) -> int:
    """The offset behind the parenthesis that closes the scope of a policy."""
    position = 0
    depth = 0
    word = ""
    while position < len(text):
        character = text[position]
        if text.startswith("//", position):
            position = text.find("\n", position)
            continue
        if character == '"':
            position += 1
            while text[position] != '"':
                position += 2 if text[position] == "\\" else 1
        elif character.isalpha():
            word += character if depth == 0 else ""
        elif character == "@":
            word = ""
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                if word in {"permit", "forbid"}:
                    return position + 1
                word = ""
        position += 1
    raise AssertionError("INVARIANT: the text was parsed as a policy, so its scope closes")


def _safe_range(policy: Est) -> str | None:
    """A condition on the attributes that a policy does arithmetic with, under which none of it overflows 64 bits.

    None when the policy does no arithmetic, or does it with something else than attributes and literals.
    """
    nodes = [node for c in policy.get("conditions", []) for node in _arithmetic(c["body"])]
    paths: dict[str, None] = {}
    for node in nodes:
        leaves = _leaves(node)
        if leaves is None:
            return None
        paths |= dict.fromkeys(leaves)
    if not paths:
        return None
    for exponent in range(18, 0, -1):
        bound = 10**exponent
        if all(_magnitude(node, bound) <= _LARGEST for node in nodes):
            return " && ".join(f"-{bound} <= {path} && {path} <= {bound}" for path in paths)
    return None


def _arithmetic(expression: Any) -> Iterable[Est]:
    if isinstance(expression, list):
        for item in expression:  # pyright: ignore[reportUnknownVariableType]
            yield from _arithmetic(item)
    elif isinstance(expression, dict):
        if expression.keys() & {"+", "-", "*", "neg"}:
            yield expression
        for value in expression.values():  # pyright: ignore[reportUnknownVariableType]
            yield from _arithmetic(value)


def _operands(node: Est) -> tuple[str, list[Est]]:
    ((operator, arguments),) = node.items()
    return operator, [arguments[k] for k in ("left", "right", "arg") if k in arguments]


def _leaves(node: Est) -> list[str] | None:
    """The attribute paths under arithmetic; None where something else is."""
    if "Value" in node:
        return [] if isinstance(node["Value"], int) else None
    if node.keys() & {"+", "-", "*", "neg"}:
        found: list[str] = []
        for operand in _operands(node)[1]:
            leaves = _leaves(operand)
            if leaves is None:
                return None
            found += leaves
        return found
    path = path_of(node)
    return None if path is None else [path]


def _magnitude(node: Est, bound: int) -> int:
    if "Value" in node:
        return abs(node["Value"])
    if not node.keys() & {"+", "-", "*", "neg"}:
        return bound
    operator, operands = _operands(node)
    sizes = [_magnitude(operand, bound) for operand in operands]
    return sizes[0] * sizes[1] if operator == "*" else sum(sizes)


def path_of(node: Est) -> str | None:
    """`context.amount` for the JSON form of it; None for anything but attributes of the request."""
    if "Var" in node:
        return node["Var"]
    if "." not in node:
        return None
    owner = path_of(node["."]["left"])
    name: str = node["."]["attr"]
    if owner is None:
        return None
    return f"{owner}.{name}" if name.isidentifier() else f"{owner}[{cedar_string(name)}]"

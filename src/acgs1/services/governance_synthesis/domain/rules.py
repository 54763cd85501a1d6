"""A rule sentence, read, and the Cedar policies that it becomes."""

from dataclasses import dataclass
from itertools import product
from typing import Literal

from acgs1.services.governance_synthesis.domain.vocabulary import Action, Attribute, Vocabulary, cedar_string

Operator = Literal["true", "false", "==", "!=", "<", "<=", ">", ">="]
RuleKind = Literal["may", "never", "approval"]

_LONG = range(-(2**63), 2**63)


class CannotSay(Exception):
    """The sentence is well formed and still says nothing that a policy of this schema could. `position` is an offset in the sentence."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as it was read: the phrase of an attribute and what is said of it."""

    phrase: str
    operator: Operator
    value: int | str | None
    position: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule sentence. `when` must all hold; `unless` is the exception that applies when all of its conditions hold."""

    kind: RuleKind
    principal: str
    principal_position: int
    action: str
    action_position: int
    when: tuple[Condition, ...]
    unless: tuple[Condition, ...]

    @property
    def forbids(self) -> bool:
        return self.kind != "may"


@dataclass(frozen=True, slots=True)
class Drafted:
    """One policy: its id and its Cedar text, not yet formatted."""

    id: str
    text: str


def policies_of(rule: Rule, vocabulary: Vocabulary, policy_id: str, principle_id: str, sentence: str) -> list[Drafted]:
    """The policies that say what `rule` says: one, or one per resource type where the action has several.

    A resource type that lacks an attribute of the sentence is one that the sentence does not speak about. Raises CannotSay.
    """
    action = vocabulary.action_named(rule.action)
    principal = vocabulary.principal_phrases[rule.principal]
    if principal not in action.principals:
        who = ", ".join(f"`{p}`" for p in action.principals)
        raise CannotSay(
            f"`{rule.principal}` is no one who can `{rule.action}`; that takes {who}", rule.principal_position
        )
    if rule.kind == "approval" and not action.takes_approval:
        raise CannotSay(
            f"nobody can approve `{rule.action}`: its context has no `approved: Bool`", rule.action_position
        )
    clauses: dict[str, str] = {}
    missing: CannotSay | None = None
    for resource in action.resources:
        try:
            clauses[resource] = _clauses(rule, list(vocabulary.attributes(action, principal, resource)))
        except _Unspoken as error:
            missing = CannotSay(error.reason, error.position)
    if not clauses:
        raise missing or CannotSay(f"`{rule.action}` applies to no resource", rule.action_position)
    return [
        Drafted(
            name,
            policy_text(
                "forbid" if rule.forbids else "permit",
                {"id": name, "principle": principle_id, "sentence": " ".join(sentence.split())},
                f"principal is {principal}, action == {action.uid}, resource is {resource}",
                clause,
            ),
        )
        for resource, clause in clauses.items()
        for name in [policy_id if len(clauses) == 1 else f"{policy_id}.{resource}"]
    ]


def base_permits(action: Action, policy_id: str, principle_id: str) -> list[Drafted]:
    """Permits for an action that sentences only restrict: to say when it is forbidden is to say that it is allowed otherwise."""
    pairs = list(product(action.principals, action.resources))
    return [
        Drafted(
            name,
            policy_text(
                "permit",
                {"id": name, "principle": principle_id},
                f"principal is {principal}, action == {action.uid}, resource is {resource}",
                "",
            ),
        )
        for principal, resource in pairs
        for name in [policy_id if len(pairs) == 1 else f"{policy_id}.{principal}.{resource}"]
    ]


def policy_text(effect: str, annotations: dict[str, str], scope: str, clauses: str) -> str:
    """One Cedar policy."""
    lines = [f"@{name}({cedar_string(value)})" for name, value in annotations.items()]
    return "\n".join([*lines, f"{effect} ({scope}){clauses};\n"])


class _Unspoken(CannotSay):
    """This resource type has no such attribute."""


def _clauses(rule: Rule, attributes: list[Attribute]) -> str:
    text = ""
    if rule.when:
        text += f" when {{ {_all(rule, rule.when, attributes, rule.forbids)} }}"
    if rule.kind == "approval":
        text += " unless { context.approved }"
    if rule.unless:
        text += f" unless {{ {_all(rule, rule.unless, attributes, not rule.forbids)} }}"
    return text


def _all(rule: Rule, conditions: tuple[Condition, ...], attributes: list[Attribute], if_absent: bool) -> str:
    return " && ".join(f"({_expression(rule, c, attributes, if_absent)})" for c in conditions)


def _expression(rule: Rule, condition: Condition, attributes: list[Attribute], if_absent: bool) -> str:
    """The condition in Cedar. `if_absent` is its value when an optional attribute is not there: whatever leads to a deny."""
    found = [a for a in attributes if a.phrase == condition.phrase]
    if not found:
        known = ", ".join(f"`{a.phrase}`" for a in attributes) or "nothing"
        raise _Unspoken(
            f"`{condition.phrase}` says nothing about `{rule.action}`; what can be said there: {known}",
            condition.position,
        )
    if len(found) > 1:
        paths = " and ".join(f"`{a.path}`" for a in found)
        raise CannotSay(f"`{condition.phrase}` is the phrase of {paths}; give each its own", condition.position)
    attribute = found[0]
    comparison = _comparison(condition, attribute)
    if not attribute.optional:
        return comparison
    present = " && ".join(_has(path) for path in attribute.optional)
    return f"if {present} then {comparison} else true" if if_absent else f"{present} && {comparison}"


def _has(path: str) -> str:
    if path.endswith('"]'):
        owner, _, name = path.rpartition('["')
        return f'{owner} has "{name[:-1]}'
    owner, _, name = path.rpartition(".")
    return f"{owner} has {name}"


def _comparison(condition: Condition, attribute: Attribute) -> str:
    path, operator, value = attribute.path, condition.operator, condition.value
    match attribute.type, value:
        case "Bool", None:
            return path if operator == "true" else f"!{path}"
        case "Long", int():
            if value not in _LONG:
                raise CannotSay(f"`{value}` is beyond the whole numbers of 64 bits", condition.position)
            return f"{path} {operator} {value}"
        case "String", str() if operator in {"==", "!="}:
            return f"{path} {operator} {cedar_string(value)}"
        case "String", int() if operator in {"==", "!="}:
            return f"{path} {operator} {cedar_string(str(value))}"
        case "Bool", _:
            raise CannotSay(f"`{attribute.phrase}` is true or false; say it alone, or with `not`", condition.position)
        case "Long", _:
            raise CannotSay(f"`{attribute.phrase}` is a whole number; compare it with one", condition.position)
        case "String", _:
            raise CannotSay(f"`{attribute.phrase}` is a text; say `is` or `is not` and a word", condition.position)
        case other, _:
            raise CannotSay(
                f"`{attribute.phrase}` is a `{other}`; sentences compare Bool, Long and String", condition.position
            )

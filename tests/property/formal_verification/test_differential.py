"""The symbolic verdict and the evaluator agree: on random schemas, policies and requests, in both directions."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acgs1.contracts.constitution import Constitution, IndifferentTo, MonotoneIn, Never, Principle
from acgs1.contracts.formal_verification import Obligation
from acgs1.services.formal_verification.adapters.kernel.cedar import Evaluator
from acgs1.services.formal_verification.adapters.kernel.law import Vocabularies
from acgs1.services.formal_verification.adapters.kernel.obligations import VerificationSession
from acgs1.services.formal_verification.adapters.kernel.prover import Provers
from acgs1.services.formal_verification.adapters.kernel.shrink import Case
from acgs1.services.formal_verification.domain import is_defect

pytestmark = pytest.mark.slow

ENVIRONMENT = ("P", 'Action::"act"', "R")
TYPES = ("Long", "Bool", "String", "Set<String>", "P", "decimal")
WORDS = ("a", "b", "ab")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "Long": st.integers(-3, 3),
    "Bool": st.booleans(),
    "String": st.sampled_from(WORDS),
    "Set<String>": st.lists(st.sampled_from(WORDS), unique=True, max_size=2),
    "P": st.sampled_from(["p1", "p2"]).map(lambda name: {"__entity": {"type": "P", "id": name}}),
    "decimal": st.sampled_from(["0.0", "1.5"]).map(lambda text: {"__extn": {"fn": "decimal", "arg": text}}),
}


@dataclass(frozen=True)
class Attribute:
    path: str
    type: str
    optional: bool

    @property
    def declared(self) -> str:
        return f"{self.path.split('.')[1]}{'?' if self.optional else ''}: {self.type}"


@st.composite
def vocabularies(draw: st.DrawFn) -> list[Attribute]:
    found: list[Attribute] = []
    for root, names in (("principal", "abc"), ("resource", "de"), ("context", "fgh")):
        for name in names:
            kind = draw(st.sampled_from(TYPES if root != "resource" else TYPES[:4]))
            found.append(Attribute(f"{root}.{name}", kind, draw(st.integers(0, 3)) == 0))
    return found


def schema_of(attributes: list[Attribute]) -> str:
    def record(root: str) -> str:
        return "{ " + ", ".join(a.declared for a in attributes if a.path.startswith(root)) + " }"

    return (
        f"entity Group; entity P in [Group] {record('principal')}; entity R {record('resource')};\n"
        f"action act appliesTo {{ principal: [P], resource: [R], context: {record('context')} }};"
    )


@st.composite
def atoms(draw: st.DrawFn, attributes: list[Attribute]) -> str:
    one = draw(st.sampled_from(attributes))
    other = draw(st.sampled_from([a for a in attributes if a.type == one.type]))
    x, y = one.path, other.path
    number, word = draw(st.integers(-2, 2)), draw(st.sampled_from(WORDS))
    choices = {
        "Long": [f"{x} < {number}", f"{x} >= {number}", f"{x} <= {y}", f"{x} == {y}"],
        "Bool": [x, f"!{x}", f"{x} == {y}"],
        "String": [f'{x} == "{word}"', f"{x} != {y}", f'{x} like "{word}*"'],
        "Set<String>": [
            f'{x}.contains("{word}")',
            f"{x}.containsAll({y})",
            f'{x}.containsAny(["{word}", "b"])',
            f"{x}.isEmpty()",
        ],
        "P": [f"{x} == principal", f'{x} == P::"p1"', f'{x} in Group::"g"', f"{x} == {y}"],
        "decimal": [f'{x}.lessThan(decimal("1.0"))', f"{x}.greaterThanOrEqual({y})"],
    }
    text = draw(st.sampled_from(choices[one.type]))
    for attribute in (other, one):
        if attribute.optional and attribute.path in text:
            root, name = attribute.path.split(".")
            text = f"({root} has {name} && {text})"
    return text


@st.composite
def conditions(draw: st.DrawFn, attributes: list[Attribute], depth: int = 2) -> str:
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        return draw(atoms(attributes))
    left, right = draw(conditions(attributes, depth - 1)), draw(conditions(attributes, depth - 1))
    form = draw(st.sampled_from(["({0} && {1})", "({0} || {1})", "!({0})", "(if {0} then {1} else !({1}))"]))
    return form.format(left, right)


@st.composite
def policy_sets(draw: st.DrawFn, attributes: list[Attribute]) -> str:
    made: list[str] = []
    for number in range(draw(st.integers(1, 4))):
        effect = "forbid" if number and draw(st.integers(0, 2)) == 0 else "permit"
        scope = draw(
            st.sampled_from(["principal", "principal is P", 'principal in Group::"g"', 'principal == P::"p1"'])
        )
        made.append(f'@id("p{number}") {effect} ({scope}, action, resource) when {{ {draw(conditions(attributes))} }};')
    return "\n".join(made)


@st.composite
def requests(draw: st.DrawFn, attributes: list[Attribute]) -> Case:
    def record(root: str) -> dict[str, Any]:
        return {
            a.path.split(".")[1]: draw(VALUES[a.type])
            for a in attributes
            if a.path.startswith(root) and not (a.optional and draw(st.booleans()))
        }

    group = {"type": "Group", "id": "g"}
    entities: list[dict[str, Any]] = [{"uid": group, "attrs": {}, "parents": []}]
    for name in ("p1", "p2"):
        parents = [group] if draw(st.booleans()) else []
        entities.append({"uid": {"type": "P", "id": name}, "attrs": record("principal"), "parents": parents})
    entities.append({"uid": {"type": "R", "id": "r"}, "attrs": record("resource"), "parents": []})
    who = {"type": "P", "id": draw(st.sampled_from(["p1", "p2"]))}
    return Case(who, ENVIRONMENT[1], {"type": "R", "id": "r"}, record("context"), entities)


def exactly(case: Case, attributes: list[Attribute]) -> str:
    """A condition that holds for this request, and for others only as far as no policy here can tell them apart."""
    parts = [f'principal == P::"{case.principal["id"]}"', 'resource == R::"r"']
    by_uid = {e["uid"]["id"]: e for e in case.entities}
    for entity in ("p1", "p2"):
        parts.append(f'{"" if by_uid[entity]["parents"] else "!"}(P::"{entity}" in Group::"g")')
        parts += _values(f'P::"{entity}"', by_uid[entity]["attrs"], "principal", attributes)
    parts += _values("resource", by_uid["r"]["attrs"], "resource", attributes)
    parts += _values("context", case.context, "context", attributes)
    return " && ".join(parts)


def _values(expression: str, record: dict[str, Any], root: str, attributes: list[Attribute]) -> list[str]:
    parts: list[str] = []
    for attribute in attributes:
        if not attribute.path.startswith(root):
            continue
        name = attribute.path.split(".")[1]
        if name not in record:
            parts.append(f"!({expression} has {name})")
            continue
        guard = f"{expression} has {name} && " if attribute.optional else ""
        parts.append(f"({guard}{expression}.{name} == {_literal(record[name])})")
    return parts


def _literal(value: Any) -> str:
    match value:
        case {"__entity": {"type": kind, "id": name}}:
            return f'{kind}::"{name}"'
        case {"__extn": {"fn": function, "arg": argument}}:
            return f'{function}("{argument}")'
        case []:
            raise AssertionError("Cedar has no type for an empty literal")
        case list():
            return f"[{', '.join(_literal(item) for item in value)}]"
        case _:
            return json.dumps(value)


def session_of(schema: str, policies: str, *invariants: Any) -> VerificationSession:
    principle = Principle(id="p", title="p", text="p", category="c", priority=1, invariants=invariants)
    constitution = Constitution(name="c", schema_text=schema, principles=(principle,))
    return VerificationSession(policies, constitution, Vocabularies(), PROVERS)


PROVERS = Provers(solver_timeout_ms=20_000, second_opinion_ms=0)
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def proved(session: VerificationSession, kind: str) -> Obligation:
    (index,) = [i for i, planned in enumerate(session.planned) if planned.kind == kind]
    return session.prove(index)


@SLOW
@given(st.data())
def test_the_verdict_on_one_exact_request_is_the_evaluators_decision(data: st.DataObject):
    attributes = data.draw(vocabularies())
    schema, policies = schema_of(attributes), data.draw(policy_sets(attributes))
    case = data.draw(
        requests(attributes).filter(lambda c: "[]" not in json.dumps([c.context, *(e["attrs"] for e in c.entities)]))
    )
    decision = _decide(schema, policies, case)
    if decision is None:
        return
    session = session_of(schema, policies, Never(when=exactly(case, attributes)))
    obligation = proved(session, "never")
    assert obligation.verdict == ("refuted" if decision else "proved"), obligation


@SLOW
@given(st.data())
def test_no_evaluation_escapes_a_proof_and_every_refutation_replays(data: st.DataObject):
    attributes = data.draw(vocabularies())
    schema, policies = schema_of(attributes), data.draw(policy_sets(attributes))
    condition = data.draw(conditions(attributes))
    obligation = _proof(schema, policies, Never(when=condition))
    if obligation is None:
        return
    assert obligation.verdict != "unknown", obligation.reason
    assert not is_defect(obligation)
    for case in data.draw(st.lists(requests(attributes), min_size=15, max_size=15)):
        if _decide(schema, policies, case) and _decide(schema, _permit(condition), case):
            assert obligation.verdict == "refuted"


@SLOW
@given(st.data())
def test_what_is_proved_indifferent_makes_no_difference_on_any_pair(data: st.DataObject):
    attributes = data.draw(vocabularies())
    schema, policies = schema_of(attributes), data.draw(policy_sets(attributes))
    target = data.draw(st.sampled_from(attributes))
    obligation = _proof(schema, policies, IndifferentTo(attributes=(target.path,)))
    if obligation is None:
        return
    assert not is_defect(obligation)
    if obligation.verdict == "refuted":
        assert obligation.counterexample is not None
        assert sorted(obligation.counterexample.decisions) == ["allow", "deny"]
    if obligation.verdict != "proved":
        return
    for case in data.draw(st.lists(requests(attributes), min_size=10, max_size=10)):
        other = _with(case, target, data.draw(VALUES[target.type]))
        assert _decide(schema, policies, case) == _decide(schema, policies, other)


@SLOW
@given(st.data())
def test_what_is_proved_monotone_never_turns_allow_into_deny(data: st.DataObject):
    attributes = data.draw(vocabularies().filter(lambda found: any(a.type == "Long" for a in found)))
    schema, policies = schema_of(attributes), data.draw(policy_sets(attributes))
    target = data.draw(st.sampled_from([a for a in attributes if a.type == "Long"]))
    obligation = _proof(schema, policies, MonotoneIn(attribute=target.path))
    if obligation is None:
        return
    assert not is_defect(obligation)
    if obligation.verdict == "refuted":
        assert obligation.counterexample is not None
        assert obligation.counterexample.decisions == ["allow", "deny"]
    if obligation.verdict != "proved":
        return
    for case in data.draw(st.lists(requests(attributes), min_size=10, max_size=10)):
        low, high = sorted([data.draw(VALUES["Long"]), data.draw(VALUES["Long"])])
        decisions = [_decide(schema, policies, _with(case, target, value)) for value in (low, high)]
        assert decisions != [True, False]


def _proof(schema: str, policies: str, invariant: Any) -> Obligation | None:
    """None where the random texts are not valid (a condition that is always false by type, say)."""
    from acgs1.services.formal_verification.errors import InvalidConstitution, InvalidPolicies

    try:
        return proved(session_of(schema, policies, invariant), invariant.kind)
    except (InvalidConstitution, InvalidPolicies):
        return None


def _decide(schema: str, policies: str, case: Case) -> bool | None:
    from acgs1_kernel import CedarValidationError

    try:
        decision = Evaluator(schema).decide(policies, "", case)
    except CedarValidationError:
        return None
    assert decision is not None
    assert not decision.errors
    return decision.allowed


def _permit(condition: str) -> str:
    return f"permit (principal, action, resource) when {{ {condition} }};"


def _with(case: Case, target: Attribute, value: Any) -> Case:
    root, name = target.path.split(".")
    if root == "context":
        return Case(case.principal, case.action, case.resource, {**case.context, name: value}, case.entities)
    uid = case.principal if root == "principal" else case.resource
    entities = [
        {**entity, "attrs": {**entity["attrs"], name: value}} if entity["uid"] == uid else entity
        for entity in case.entities
    ]
    return Case(case.principal, case.action, case.resource, case.context, entities)

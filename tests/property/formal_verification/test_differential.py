"""The symbolic verdict and the evaluator agree: on random schemas, policies and requests, in both directions."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from acgs1_kernel import CedarValidationError, Decision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acgs1.contracts.constitution import Constitution, IndifferentTo, MonotoneIn, Never, Principle
from acgs1.contracts.formal_verification import Counterexample, NewQuestion, Obligation
from acgs1.services.formal_verification.adapters.kernel.cedar import Evaluator
from acgs1.services.formal_verification.adapters.kernel.comparison import ComparisonSession
from acgs1.services.formal_verification.adapters.kernel.hygiene import HygieneSession
from acgs1.services.formal_verification.adapters.kernel.law import Vocabularies
from acgs1.services.formal_verification.adapters.kernel.obligations import VerificationSession
from acgs1.services.formal_verification.adapters.kernel.prover import Provers
from acgs1.services.formal_verification.adapters.kernel.questions import QuestionSession
from acgs1.services.formal_verification.adapters.kernel.schema_view import split_uid
from acgs1.services.formal_verification.adapters.kernel.shrink import Case
from acgs1.services.formal_verification.domain import is_defect
from acgs1.services.formal_verification.errors import InvalidConstitution, InvalidPolicies

pytestmark = pytest.mark.slow

S = TypeVar("S")
ENVIRONMENT = ("P", 'Action::"act"', "R")
TYPES = ("Long", "Bool", "String", "Set<String>", "P", "decimal")
WORDS = ("a", "b", "ab")
LAST = 2**63 - 1
VALUES: dict[str, st.SearchStrategy[Any]] = {
    # The ends are where sums and products leave the range, and a policy cannot be evaluated.
    "Long": st.integers(-3, 3) | st.sampled_from([LAST, LAST - 1, -LAST - 1]),
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
def atoms(draw: st.DrawFn, attributes: list[Attribute], known: frozenset[str] = frozenset()) -> str:
    """`known`: optional attributes that are there wherever this is evaluated, so they are read as they are."""
    one = draw(st.sampled_from(attributes))
    other = draw(st.sampled_from([a for a in attributes if a.type == one.type]))
    x, y = one.path, other.path
    number, word = draw(st.integers(-2, 2)), draw(st.sampled_from(WORDS))
    choices = {
        "Long": [
            *(f"{x} < {number}", f"{x} >= {number}", f"{x} <= {y}", f"{x} == {y}"),
            *(f"{x} + {number} > {y}", f"{x} + {y} < {number}", f"{x} - {y} == {number}", f"{x} * 2 >= {y}"),
            f"-{x} <= {y}",
        ],
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
        if attribute.optional and attribute.path not in known and attribute.path in text:
            root, name = attribute.path.split(".")
            text = f"({root} has {name} && {text})"
    return text


@st.composite
def conditions(
    draw: st.DrawFn, attributes: list[Attribute], depth: int = 2, known: frozenset[str] = frozenset()
) -> str:
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        return draw(atoms(attributes, known))
    optional = [a for a in attributes if a.optional and a.path not in known]
    if optional and draw(st.integers(0, 3)) == 0:
        there = draw(st.sampled_from(optional))
        root, name = there.path.split(".")
        then = draw(conditions(attributes, depth - 1, known | {there.path}))
        otherwise = draw(st.sampled_from(["true", "false"]))
        return f"(if {root} has {name} then {then} else {otherwise})"
    left, right = (draw(conditions(attributes, depth - 1, known)) for _ in range(2))
    form = draw(st.sampled_from(["({0} && {1})", "({0} || {1})", "!({0})", "(if {0} then {1} else !({1}))"]))
    return form.format(left, right)


@st.composite
def policy_sets(draw: st.DrawFn, attributes: list[Attribute]) -> str:
    return "\n".join(draw(policies(attributes, number)) for number in range(draw(st.integers(1, 4))))


@st.composite
def policies(draw: st.DrawFn, attributes: list[Attribute], number: int) -> str:
    effect = "forbid" if number and draw(st.integers(0, 2)) == 0 else "permit"
    scope = draw(
        st.sampled_from(
            [
                "principal",
                "principal is P",
                'principal in Group::"g"',
                'principal is P in Group::"g"',
                'principal == P::"p1"',
            ]
        )
    )
    clause = draw(st.sampled_from(["when", "when", "unless"]))
    return f'@id("p{number}") {effect} ({scope}, action, resource) {clause} {{ {draw(conditions(attributes))} }};'


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


def exact_requests(attributes: list[Attribute]) -> st.SearchStrategy[Case]:
    """Requests that a condition can describe: Cedar has no literal for an empty set."""
    return requests(attributes).filter(
        lambda case: "[]" not in json.dumps([case.context, *(entity["attrs"] for entity in case.entities)])
    )


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


def session_of(schema: str, text: str, *invariants: Any) -> VerificationSession:
    principle = Principle(id="p", title="p", text="p", category="c", priority=1, invariants=invariants)
    constitution = Constitution(name="c", schema_text=schema, principles=(principle,))
    return VerificationSession(text, constitution, Vocabularies(), PROVERS)


ONLY_FAILING = "shown only on requests where a policy cannot be evaluated"
PROVERS = Provers(solver_timeout_ms=20_000, second_opinion_ms=0)
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def proved(session: VerificationSession, kind: str) -> Obligation:
    (index,) = [i for i, planned in enumerate(session.planned) if planned.kind == kind]
    return session.prove(index)


@SLOW
@given(st.data())
def test_the_verdict_on_one_exact_request_is_the_evaluators_decision(data: st.DataObject):
    attributes = data.draw(vocabularies())
    schema, text = schema_of(attributes), data.draw(policy_sets(attributes))
    case = data.draw(exact_requests(attributes))
    decision = _decision(schema, text, case)
    if decision is None:
        return
    session = session_of(schema, text, Never(when=exactly(case, attributes)))
    obligation = proved(session, "never")
    if decision.errored:
        # The specification may allow what the decision point denies; neither is a breach that can be shown.
        assert obligation.verdict in {"proved", "unknown"}, obligation
    else:
        assert obligation.verdict == ("refuted" if decision.allowed else "proved"), obligation


@SLOW
@given(st.data())
def test_no_evaluation_escapes_a_proof_and_every_refutation_replays(data: st.DataObject):
    attributes = data.draw(vocabularies())
    schema, text = schema_of(attributes), data.draw(policy_sets(attributes))
    condition = data.draw(conditions(attributes))
    obligation = _proof(schema, text, Never(when=condition))
    if obligation is None:
        return
    assert obligation.verdict != "unknown" or obligation.reason == ONLY_FAILING, obligation.reason
    assert not is_defect(obligation)
    for case in data.draw(st.lists(requests(attributes), min_size=15, max_size=15)):
        if _decide(schema, text, case) and _decide(schema, _permit(condition), case):
            assert obligation.verdict == "refuted"


@SLOW
@given(st.data())
def test_what_is_proved_indifferent_makes_no_difference_on_any_pair(data: st.DataObject):
    attributes = data.draw(vocabularies())
    schema, text = schema_of(attributes), data.draw(policy_sets(attributes))
    target = data.draw(st.sampled_from(attributes))
    obligation = _proof(schema, text, IndifferentTo(attributes=(target.path,)))
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
        one, two = (_decision(schema, text, each) for each in (case, other))
        # That no policy fails is an obligation of its own.
        if one is not None and two is not None and not one.errored and not two.errored:
            assert one.allowed == two.allowed


@SLOW
@given(st.data())
def test_what_is_proved_monotone_never_turns_allow_into_deny(data: st.DataObject):
    attributes = data.draw(vocabularies().filter(lambda found: any(a.type == "Long" for a in found)))
    schema, text = schema_of(attributes), data.draw(policy_sets(attributes))
    target = data.draw(st.sampled_from([a for a in attributes if a.type == "Long"]))
    obligation = _proof(schema, text, MonotoneIn(attribute=target.path))
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
        one, two = (_decision(schema, text, _with(case, target, value)) for value in (low, high))
        if one is not None and two is not None and not two.errored:
            assert not one.allowed or two.allowed


# --- comparisons, questions, hygiene: what is said is what the decision point decides ---


def _session(made: Callable[[], S]) -> S | None:
    """None where the random texts are not valid."""
    try:
        return made()
    except InvalidPolicies:
        return None


@SLOW
@given(st.data())
def test_a_comparison_says_what_the_decisions_on_any_request_say(data: st.DataObject):
    attributes = data.draw(vocabularies())
    schema, old = schema_of(attributes), data.draw(policy_sets(attributes))
    kept = [line for line in old.splitlines() if data.draw(st.booleans())]
    new = "\n".join([*kept, data.draw(policies(attributes, 7))])
    if data.draw(st.booleans()):
        old, new = new, old
    session = _session(lambda: ComparisonSession(schema, old, new, Vocabularies(), PROVERS))
    if session is None:
        return
    change = session.compare(0)
    assert change.change != "unknown", change.reason
    widens, narrows = change.change in {"widens", "both"}, change.change in {"narrows", "both"}
    assert (change.newly_allowed is not None, change.newly_denied is not None) == (widens, narrows)
    for example in filter(None, (change.newly_allowed, change.newly_denied)):
        decided = [_decide(schema, text, _case(example)) for text in (old, new)]
        assert example.decisions == ["allow" if allowed else "deny" for allowed in decided]
    for case in data.draw(st.lists(requests(attributes), min_size=15, max_size=15)):
        before, after = (_decide(schema, text, case) for text in (old, new))
        assert widens or not (after and not before)
        assert narrows or not (before and not after)


@SLOW
@given(st.data())
def test_a_question_is_answered_by_what_is_decided_on_any_request(data: st.DataObject):
    attributes = data.draw(vocabularies())
    schema, text, when = schema_of(attributes), data.draw(policy_sets(attributes)), data.draw(conditions(attributes))
    allow = data.draw(st.booleans())
    asked = NewQuestion(schema_text=schema, policies=text, when=when, decision="allow" if allow else "deny")
    session = _session(lambda: QuestionSession(asked, Vocabularies(), PROVERS))
    if session is None:
        return
    answer = session.answer(0)
    assert answer.answer != "unknown", answer.reason
    assert (answer.answer == "yes") == (answer.example is not None)
    if answer.example is not None:
        case = _case(answer.example)
        assert (_decide(schema, _permit(when), case), _decide(schema, text, case)) == (True, allow)
    for case in data.draw(st.lists(requests(attributes), min_size=15, max_size=15)):
        if _decide(schema, _permit(when), case) and _decide(schema, text, case) == allow:
            assert answer.answer == "yes"


@SLOW
@given(st.data())
def test_a_question_about_one_exact_request_is_answered_by_its_decision(data: st.DataObject):
    attributes = data.draw(vocabularies())
    schema, text = schema_of(attributes), data.draw(policy_sets(attributes))
    case = data.draw(exact_requests(attributes))
    allowed = _decide(schema, text, case)
    if allowed is None:
        return
    for decision in ("allow", "deny"):
        asked = NewQuestion(schema_text=schema, policies=text, when=exactly(case, attributes), decision=decision)
        answer = QuestionSession(asked, Vocabularies(), PROVERS).answer(0)
        assert answer.answer == ("yes" if allowed == (decision == "allow") else "no"), answer


@SLOW
@given(st.data())
def test_what_is_said_of_a_policy_is_so_on_any_request(data: st.DataObject):
    attributes = data.draw(vocabularies())
    schema, text = schema_of(attributes), data.draw(policy_sets(attributes))
    principle = Principle(id="p", title="p", text="p", category="c", priority=1)
    law = Constitution(name="c", schema_text=schema, principles=(principle,))
    session = _session(lambda: HygieneSession(text, law, Vocabularies(), PROVERS))
    if session is None:
        return
    lines = {f"p{number}": line for number, line in enumerate(text.splitlines())}
    cases = data.draw(st.lists(requests(attributes), min_size=15, max_size=15))
    decided = [_decision(schema, text, case) for case in cases]
    for index in range(len(session.places)):
        facts = session.look(index)
        assert "unknown" not in (facts.can_error, facts.never_matches, facts.redundant, facts.forbidden)
        own = lines[facts.policy_id]
        rest = "\n".join(line for name, line in lines.items() if name != facts.policy_id)
        if facts.error_example is not None:
            shown = _decision(schema, own, _case(Counterexample.model_validate(facts.error_example)))
            assert shown is not None
            assert shown.errored == [facts.policy_id]
        for case, decision in zip(cases, decided, strict=True):
            alone = _decision(schema, own, case)
            if decision is None or alone is None:
                continue
            assert facts.can_error == "yes" or not alone.errored
            assert facts.never_matches != "yes" or not alone.reasons
            assert facts.redundant != "yes" or decision.allowed == _decide(schema, rest, case)
            assert facts.forbidden != "yes" or not alone.allowed or not decision.allowed


def _case(shown: Counterexample) -> Case:
    def reference(text: str) -> dict[str, Any]:
        kind, entity_id = split_uid(text)
        return {"type": kind, "id": entity_id}

    return Case(reference(shown.principal), shown.action, reference(shown.resource), shown.context, shown.entities)


def _proof(schema: str, text: str, invariant: Any) -> Obligation | None:
    """None where the random texts are not valid (a condition that is always false by type, say)."""
    try:
        return proved(session_of(schema, text, invariant), invariant.kind)
    except (InvalidConstitution, InvalidPolicies):
        return None


def _decision(schema: str, text: str, case: Case) -> Decision | None:
    try:
        decision = Evaluator(schema).decide(text, "", case)
    except CedarValidationError:
        return None
    assert decision is not None
    return decision


def _decide(schema: str, text: str, case: Case) -> bool | None:
    """What the decision point decides: a policy that fails denies."""
    decision = _decision(schema, text, case)
    return decision.allowed if decision is not None else None


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

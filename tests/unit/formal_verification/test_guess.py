"""Requests made without a solver: confirmed by the evaluator or not made at all."""

import acgs1_kernel as kernel
import pytest

from acgs1.contracts.constitution import Always, Constitution, Never, Principle
from acgs1.services.formal_verification.adapters.kernel import obligations
from acgs1.services.formal_verification.adapters.kernel.cedar import Evaluator
from acgs1.services.formal_verification.adapters.kernel.guess import conditions_of, guess
from acgs1.services.formal_verification.adapters.kernel.law import Vocabularies
from acgs1.services.formal_verification.adapters.kernel.obligations import VerificationSession
from acgs1.services.formal_verification.adapters.kernel.prover import EVALUATOR, Provers
from acgs1.services.formal_verification.adapters.kernel.schema_view import SchemaView

SCHEMA = """
entity Team;
entity Person in [Team] { active: Bool, age: Long, nick?: String, boss: Person };
entity Folder;
entity Record in [Folder] { owner: Person, labels: Set<String>, price: decimal };
action read appliesTo {
  principal: [Person], resource: [Record],
  context: { amount: Long, approved: Bool, purpose: String, note?: String, where: { zone: String } },
};
"""
ENVIRONMENT = ("Person", 'Action::"read"', "Record")
VIEW = SchemaView(kernel.schema_to_json(SCHEMA))


def _policy(condition: str) -> str:
    return f'@id("p") permit (principal, action, resource) when {{ {condition} }};'


@pytest.mark.parametrize(
    "condition",
    [
        "context.amount > 1000 && !context.approved",
        "5 <= context.amount && context.amount != 5",
        "-3 > context.amount",
        'context.purpose == "audit" || context.approved',
        '!(context.purpose != "audit")',
        'resource.labels.contains("sealed") && !resource.labels.contains("open")',
        'resource.labels.containsAny(["a", "b"]) && resource.labels.containsAll(["c", "d"])',
        "resource.labels.isEmpty()",
        "resource.owner == principal && principal.active",
        "principal.boss.age > 65 && context.amount < principal.boss.age",
        'principal has nick && principal.nick == "x"',
        'context has note && !(principal has nick) && context.where.zone == "eu"',
        "principal is Person",
    ],
)
def test_a_guess_meets_a_plain_condition(condition: str):
    case = guess(VIEW, ENVIRONMENT, conditions_of(_policy(condition)))
    assert case is not None
    decision = Evaluator(SCHEMA).decide(_policy(condition), "", case)
    assert decision is not None, "it is a request of the schema"
    assert decision.allowed
    other = f'@id("p") permit (principal, action, resource) unless {{ {condition} }};'
    unmet = guess(VIEW, ENVIRONMENT, conditions_of(other))
    if unmet is not None:
        decision = Evaluator(SCHEMA).decide(other, "", unmet)
        assert decision is not None
        assert decision.allowed


@pytest.mark.parametrize(
    "condition",
    [
        "context.amount > 10 && context.amount < 5",
        'resource.labels.contains("a") && resource.labels.isEmpty()',
        "context.amount + 1 > 10",
        'principal in Team::"x"',
        'resource.price.lessThan(decimal("1.0"))',
        "9223372036854775807 < context.amount",
        "principal.boss.boss.boss.boss == resource.owner && principal != resource.owner",
    ],
)
def test_there_is_no_guess_where_the_condition_is_not_understood_or_cannot_hold(condition: str):
    assert guess(VIEW, ENVIRONMENT, conditions_of(_policy(condition))) is None


def _verdict(policies: str, *invariants: Never | Always):
    principle = Principle(id="p", title="p", text="p", category="test", priority=1, invariants=invariants)
    law = Constitution(name="test", schema_text=SCHEMA, principles=(principle,))
    session = VerificationSession(policies, law, Vocabularies(), Provers())
    return session.prove(0)


EVERYTHING = '@id("all") permit (principal, action, resource);'


def test_a_plain_refutation_needs_no_solver_and_the_rest_is_left_to_it():
    plain = _verdict(EVERYTHING, Never(actions=("read",), when="context.amount > 1000"))
    assert (plain.verdict, plain.solver, plain.smtlib_sha256, plain.strength) == (
        "refuted",
        EVALUATOR,
        None,
        "replayed",
    )
    assert plain.suggestion is not None
    hard = _verdict(EVERYTHING, Never(actions=("read",), when="context.amount * context.amount == 49"))
    assert hard.verdict == "refuted"
    assert hard.solver != EVALUATOR
    denied = _verdict(
        '@id("none") forbid (principal, action, resource);', Always(actions=("read",), when="context.approved")
    )
    assert (denied.verdict, denied.solver) == ("refuted", EVALUATOR)


def test_a_guess_that_the_evaluator_does_not_confirm_is_no_refutation(monkeypatch: pytest.MonkeyPatch):
    wrong = guess(VIEW, ENVIRONMENT, [])
    assert wrong is not None
    monkeypatch.setattr(obligations, "guess", lambda *_: wrong)
    compliant = EVERYTHING.replace(";", " when { context.amount <= 1000 };")
    assert _verdict(compliant, Never(actions=("read",), when="context.amount > 1000")).verdict == "proved"


def test_no_edit_is_suggested_that_could_fail_where_the_policy_could_not():
    refuted = _verdict(EVERYTHING, Never(actions=("read",), when="context.amount * 2 > 100"))
    assert refuted.verdict == "refuted"
    assert refuted.suggestion is None


@pytest.mark.parametrize("condition", ["true", "context.amount > 3 || true"])
def test_a_never_that_forbids_everything_is_refuted_by_any_permit(condition: str):
    refuted = _verdict(EVERYTHING, Never(actions=("read",), when=condition))
    assert refuted.verdict == "refuted"
    assert refuted.counterexample is not None
    assert refuted.counterexample.determining_policies == ["all"]
    assert _verdict("", Never(actions=("read",), when=condition)).verdict == "proved"

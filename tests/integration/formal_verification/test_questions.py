"""What can ever happen, which policies do nothing, which principles cannot all be kept."""

from typing import Any

import pytest

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import EnvironmentAnswer, Obligation
from acgs1.services.formal_verification.adapters.kernel.sessions import Sessions
from acgs1.services.formal_verification.domain import INFORMATIONAL, constitution_outcome, hygiene_outcome
from acgs1.services.formal_verification.errors import InvalidConstitution, InvalidPolicies

SCHEMA = """
entity Agent { trust: Long, region: String };
entity Account { frozen: Bool };
action pay, view appliesTo { principal: [Agent], resource: [Account], context: { amount: Long, approved: Bool } };
"""


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return Sessions(solver_timeout_ms=10_000, second_opinion_ms=0)


def law(**principles: list[dict[str, Any]]) -> dict[str, Any]:
    made = [
        {"id": name.replace("_", "-"), "title": name, "text": name, "category": "c", "priority": 1, "invariants": said}
        for name, said in principles.items()
    ]
    return Constitution.model_validate({"name": "law", "schema_text": SCHEMA, "principles": made}).model_dump(
        mode="json"
    )


def results(sessions: Sessions, kind: Any, data: dict[str, Any]) -> list[dict[str, Any]]:
    session = sessions.open(kind, data)
    return [session.run(index) for index in range(len(session.plan()["items"]))]


# --- questions ---


def ask(sessions: Sessions, policies: str, **question: Any) -> dict[str, EnvironmentAnswer]:
    found = results(sessions, "question", {"schema_text": SCHEMA, "policies": policies, **question})
    return {a.environment.action: a for a in map(EnvironmentAnswer.model_validate, found)}


PAY = '@id("pay") permit(principal, action == Action::"pay", resource) when { context.amount <= principal.trust };'


def test_whether_an_agent_can_ever_do_something_is_answered_with_a_request_that_it_can(sessions: Sessions):
    answers = ask(sessions, PAY, when="context.amount > 1000")
    assert answers['Action::"view"'].answer == "no"
    pay = answers['Action::"pay"']
    assert pay.answer == "yes"
    assert pay.example is not None
    assert pay.example.decisions == ["allow"]
    assert pay.example.context["amount"] == 1001


def test_assumptions_bound_the_question(sessions: Sessions):
    assert (
        ask(sessions, PAY, when="context.amount > 1000", assume=["principal.trust <= 500"])['Action::"pay"'].answer
        == "no"
    )


def test_guards_of_a_constitution_count_when_it_is_given(sessions: Sessions):
    constitution = law(large=[{"kind": "never", "when": "context.amount > 1000"}])
    answers = ask(sessions, PAY, when="context.amount > 1000", constitution=constitution)
    assert {a.answer for a in answers.values()} == {"no"}


def test_whether_something_is_ever_denied_can_be_asked_as_well(sessions: Sessions):
    never = ask(sessions, PAY, decision="deny", actions=["pay"], when="context.amount <= principal.trust")
    assert {name: a.answer for name, a in never.items()} == {'Action::"pay"': "no"}
    ever = ask(sessions, PAY, decision="deny", actions=["pay"], when="context.approved")['Action::"pay"']
    assert ever.answer == "yes"
    assert ever.example is not None
    assert ever.example.decisions == ["deny"]


@pytest.mark.parametrize(
    "when", ["context.colour == 1", "true }; permit(principal, action, resource) when { true", "1 +", "1"]
)
def test_a_question_that_is_no_condition_of_the_schema_is_refused(sessions: Sessions, when: str):
    with pytest.raises(InvalidPolicies):
        ask(sessions, PAY, when=when)


def test_a_question_about_what_cannot_be_is_answered_with_no(sessions: Sessions):
    assert {a.answer for a in ask(sessions, PAY, when="principal is Account").values()} == {"no"}


# A policy that cannot be evaluated denies at the decision point; a condition that cannot be evaluated does not hold.
LAST = 2**63 - 1
ALL = '@id("all") permit(principal, action, resource);'


def test_a_request_that_is_denied_because_a_policy_fails_is_found(sessions: Sessions):
    text = f'{ALL} @id("plus") permit(principal, action, resource) when {{ context.amount + 1 > 0 }};'
    answers = ask(sessions, text, decision="deny")
    assert {a.answer for a in answers.values()} == {"yes"}
    example = answers['Action::"pay"'].example
    assert example is not None
    assert (example.decisions, example.context["amount"]) == (["deny"], LAST)
    assert f"policy `plus` cannot be evaluated with context.amount = {LAST}" in example.explanation
    assert {a.answer for a in ask(sessions, text, when=f"context.amount == {LAST}").values()} == {"no"}
    bounded = ask(sessions, text, decision="deny", assume=[f"context.amount < {LAST}"])
    assert {a.answer for a in bounded.values()} == {"no"}


def test_a_forbid_that_fails_denies_where_its_condition_would_not_hold(sessions: Sessions):
    text = f"{ALL} forbid(principal, action, resource) when {{ context.amount + principal.trust > 10 }};"
    when = f"context.amount == {LAST} && principal.trust == 1"
    assert {a.answer for a in ask(sessions, text, decision="deny", when=when).values()} == {"yes"}
    assert {a.answer for a in ask(sessions, text, when=when).values()} == {"no"}


def test_a_guard_that_fails_denies_as_a_policy_does(sessions: Sessions):
    constitution = law(sum=[{"kind": "never", "when": "context.amount + 1 > 100"}])
    answers = ask(sessions, ALL, decision="deny", when=f"context.amount == {LAST}", constitution=constitution)
    assert {a.answer for a in answers.values()} == {"yes"}


@pytest.mark.parametrize("decision", ["allow", "deny"])
def test_a_condition_that_can_fail_is_asked_about_where_it_holds(sessions: Sessions, decision: str):
    text = ALL if decision == "allow" else "forbid(principal, action, resource);"
    answers = ask(sessions, text, decision=decision, when="context.amount * principal.trust > 10")
    assert {a.answer for a in answers.values()} == {"yes"}
    impossible = ask(sessions, text, decision=decision, when="context.amount + 1 < context.amount")
    assert {a.answer for a in impossible.values()} == {"no"}


def test_a_prohibition_is_not_said_to_forbid_where_its_own_condition_cannot_be_evaluated(sessions: Sessions):
    constitution = law(sum=[{"kind": "never", "actions": ["pay"], "when": "context.amount + 1 > 100"}])
    text = (
        f'@id("all") permit(principal, action, resource) unless {{ context.amount > 99 && context.amount < {LAST} }};'
    )
    found = refuted(sessions, text, constitution)
    (never,) = [o for o in found if o.kind == "never"]
    assert never.counterexample is not None
    assert "where the condition of principle `sum` cannot be evaluated" in never.counterexample.explanation
    assert [o.principle_id for o in found if o.kind == "never_errors"] == ["sum"]


# --- hygiene ---

SPEAKS_OF_BOTH = law(all=[{"kind": "never", "when": "context.amount < 0"}])


def hygiene(sessions: Sessions, policies: str, constitution: dict[str, Any] = SPEAKS_OF_BOTH):
    outcome = hygiene_outcome(results(sessions, "hygiene", {"policies": policies, "constitution": constitution}))
    return {(finding.kind, *finding.policy_ids) for finding in outcome.findings}


P = '@id("{0}") permit(principal, action == Action::"pay", resource) when {{ {1} }};'
F = '@id("{0}") forbid(principal, action == Action::"pay", resource) when {{ {1} }};'


def test_a_narrower_policy_is_shadowed_by_the_wider_one(sessions: Sessions):
    text = P.format("wide", "context.amount < 100") + P.format("narrow", "context.amount < 50")
    assert hygiene(sessions, text) == {("shadowed", "narrow", "wide")}


def test_a_policy_that_two_others_cover_together_is_redundant(sessions: Sessions):
    text = (
        P.format("low", "context.amount < 50")
        + P.format("high", "context.amount >= 40")
        + P.format("all", "context.approved")
    )
    assert hygiene(sessions, text) == {("redundant", "all")}


def test_a_condition_that_contradicts_itself_never_matches(sessions: Sessions):
    assert hygiene(sessions, P.format("never", "context.amount > 5 && context.amount < 3")) == {
        ("never_matches", "never")
    }


def test_a_permit_that_never_takes_effect_is_a_conflict_with_the_fewest_forbids_that_see_to_it(sessions: Sessions):
    text = P.format("small", "context.amount < 10") + F.format("stop", "context.amount < 20")
    text += F.format("frozen", "resource.frozen")
    assert hygiene(sessions, text) == {("conflict", "small", "stop"), ("redundant", "frozen")}


def test_forbids_that_only_together_cover_a_permit_are_named_together(sessions: Sessions):
    text = P.format("small", "context.amount < 10") + F.format("low", "context.amount < 5")
    text += F.format("high", "context.amount >= 4")
    assert hygiene(sessions, text) == {("conflict", "small", "high", "low")}


def test_a_forbid_that_limits_a_permit_is_no_finding_unless_asked_for(sessions: Sessions):
    text = P.format("small", "context.amount < 10") + F.format("frozen", "resource.frozen")
    assert hygiene(sessions, text) == set()
    data = {"policies": text, "constitution": SPEAKS_OF_BOTH, "overrides": True}
    (finding,) = hygiene_outcome(results(sessions, "hygiene", data)).findings
    assert (finding.kind, finding.policy_ids) == ("overridden", ["small", "frozen"])
    assert finding.kind in INFORMATIONAL


def test_two_policies_that_match_alike_are_one_finding(sessions: Sessions):
    text = P.format("one", "context.amount < 10") + P.format("two", "!(context.amount >= 10)")
    assert hygiene(sessions, text) == {("shadowed", "one", "two")}


def test_a_policy_that_can_fail_is_found_with_a_request_on_which_it_does(sessions: Sessions):
    text = P.format("large", "context.amount * 3 > 10")
    data = {"policies": text, "constitution": SPEAKS_OF_BOTH}
    (finding,) = hygiene_outcome(results(sessions, "hygiene", data)).findings
    assert (finding.kind, finding.policy_ids) == ("can_error", ["large"])
    assert finding.example is not None
    assert finding.example.decisions == ["deny"]
    assert "overflow" in finding.detail


def test_a_forbid_that_forbids_nothing_permitted_is_redundant(sessions: Sessions):
    text = P.format("small", "context.amount < 10") + F.format("large", "context.amount > 1000")
    assert hygiene(sessions, text) == {("redundant", "large")}


def test_a_permit_where_no_principle_speaks_is_found(sessions: Sessions):
    constitution = law(pay=[{"kind": "never", "actions": ["pay"], "when": "context.amount < 0"}])
    text = '@id("view") permit(principal, action == Action::"view", resource) when { context.approved };'
    assert hygiene(sessions, text, constitution) == {("beyond_constitution", "view")}


def test_a_permit_wider_than_the_principle_is_shown_with_a_request_that_no_principle_mentions(sessions: Sessions):
    said = [{"kind": "never", "when": 'principal.region == "eu" && context.amount > 9'}]
    text = P.format("pay", "context.amount < 5")
    data = {"policies": text, "constitution": law(eu=said)}
    (finding,) = hygiene_outcome(results(sessions, "hygiene", data)).findings
    assert finding.kind == "beyond_constitution"
    assert finding.example is not None
    assert finding.example.decisions == ["allow"]
    assert 'principal.region = ""' in finding.detail


def test_a_tidy_set_has_no_findings(sessions: Sessions):
    assert hygiene(sessions, PAY) == set()


# --- constitutions ---


def check(sessions: Sessions, constitution: dict[str, Any]) -> set[tuple[str, ...]]:
    outcome = constitution_outcome(results(sessions, "constitution", {"constitution": constitution}))
    assert outcome.unanswered == []
    return {(finding.kind, *finding.principle_ids) for finding in outcome.findings}


def test_an_always_and_a_never_about_one_request_contradict_each_other(sessions: Sessions):
    constitution = law(
        serve=[{"kind": "always", "actions": ["pay"], "when": "context.approved"}],
        freeze=[{"kind": "never", "actions": ["pay"], "when": "resource.frozen"}],
    )
    assert check(sessions, constitution) == {("contradiction", "serve", "freeze")}
    example = next(
        finding["example"]
        for look in results(sessions, "constitution", {"constitution": constitution})
        for finding in look["findings"]
    )
    assert example["context"]["approved"] is True
    assert example["entities"][0]["attrs"] == {"frozen": True}


def test_an_always_that_makes_room_for_the_never_does_not(sessions: Sessions):
    constitution = law(
        serve=[{"kind": "always", "actions": ["pay"], "when": "context.approved && !resource.frozen"}],
        freeze=[{"kind": "never", "actions": ["pay"], "when": "resource.frozen"}],
    )
    assert check(sessions, constitution) == set()


def test_fairness_can_make_an_always_and_a_never_contradict_on_two_requests(sessions: Sessions):
    constitution = law(
        serve=[{"kind": "always", "actions": ["pay"], "when": 'principal.region == "eu"'}],
        stop=[{"kind": "never", "actions": ["pay"], "when": 'principal.region == "us"'}],
        fair=[{"kind": "indifferent_to", "actions": ["pay"], "attributes": ["principal.region"]}],
    )
    assert check(sessions, constitution) == {("contradiction", "serve", "stop", "fair")}


def test_monotonicity_can_make_an_always_and_a_never_contradict(sessions: Sessions):
    rising = [{"kind": "monotone_in", "actions": ["pay"], "attribute": "principal.trust"}]
    serve = [{"kind": "always", "actions": ["pay"], "when": "principal.trust == 5"}]
    above = law(serve=serve, stop=[{"kind": "never", "actions": ["pay"], "when": "principal.trust > 9"}], rise=rising)
    below = law(serve=serve, stop=[{"kind": "never", "actions": ["pay"], "when": "principal.trust < 2"}], rise=rising)
    assert check(sessions, above) == {("contradiction", "serve", "stop", "rise")}
    assert check(sessions, below) == set()


def fair(attribute: str) -> list[dict[str, Any]]:
    return [{"kind": "indifferent_to", "actions": ["pay"], "attributes": [attribute]}]


def test_a_contradiction_through_a_chain_of_ties_is_found_and_named_by_all_it_needs(sessions: Sessions):
    constitution = law(
        serve=[{"kind": "always", "actions": ["pay"], "when": 'principal.region == "eu" && principal.trust == 5'}],
        stop=[{"kind": "never", "actions": ["pay"], "when": 'principal.region == "us" && principal.trust > 7'}],
        region=fair("principal.region"),
        rise=[{"kind": "monotone_in", "actions": ["pay"], "attribute": "principal.trust"}],
        frozen=fair("resource.frozen"),
    )
    assert check(sessions, constitution) == {("contradiction", "serve", "stop", "region", "rise")}
    (finding,) = [
        found
        for look in results(sessions, "constitution", {"constitution": constitution})
        for found in look["findings"]
    ]
    low, high = finding["example"], finding["example"]["paired"]
    trust = [
        entity["attrs"]["trust"] for run in (low, high) for entity in run["entities"] if "trust" in entity["attrs"]
    ]
    assert (low["decisions"], high["decisions"], trust) == (["allow"], ["deny"], [5, 8])
    assert 'then by `region` and `rise` also with principal.region = "us", principal.trust = 8' in finding["detail"]


def test_without_one_link_of_the_chain_the_rest_can_be_kept(sessions: Sessions):
    parts = {
        "serve": [{"kind": "always", "actions": ["pay"], "when": 'principal.region == "eu" && principal.trust == 5'}],
        "stop": [{"kind": "never", "actions": ["pay"], "when": 'principal.region == "us" && principal.trust > 7'}],
        "region": fair("principal.region"),
        "rise": [{"kind": "monotone_in", "actions": ["pay"], "attribute": "principal.trust"}],
    }
    for left_out in parts:
        rest = {name: invariants for name, invariants in parts.items() if name != left_out}
        assert check(sessions, law(**rest)) == set(), left_out


def test_indifference_to_an_attribute_lets_it_fall_as_well(sessions: Sessions):
    constitution = law(
        serve=[{"kind": "always", "actions": ["pay"], "when": "principal.trust == 5"}],
        stop=[{"kind": "never", "actions": ["pay"], "when": "principal.trust < 2"}],
        rise=[{"kind": "monotone_in", "actions": ["pay"], "attribute": "principal.trust"}],
        blind=fair("principal.trust"),
    )
    assert check(sessions, constitution) == {("contradiction", "serve", "stop", "blind"), ("implied", "rise")}


def test_a_fairness_that_others_add_up_to_is_implied(sessions: Sessions):
    both = {"kind": "indifferent_to", "actions": ["pay"], "attributes": ["principal.region", "resource.frozen"]}
    constitution = law(region=fair("principal.region"), frozen=fair("resource.frozen"), both=[both])
    assert check(sessions, constitution) == {("implied", "both"), ("implied", "region"), ("implied", "frozen")}


def test_a_never_that_another_says_already_is_implied(sessions: Sessions):
    constitution = law(
        large=[{"kind": "never", "when": "context.amount > 100"}],
        huge=[{"kind": "never", "when": "context.amount > 1000"}],
    )
    assert check(sessions, constitution) == {("implied", "huge")}


def test_a_promise_that_fairness_carries_to_another_request_is_implied(sessions: Sessions):
    constitution = law(
        serve=[{"kind": "always", "actions": ["pay"], "when": "context.amount > 10 && principal.trust == 3"}],
        fair=fair("principal.trust"),
        more=[{"kind": "always", "actions": ["pay"], "when": "context.amount > 20 && principal.trust == 7"}],
        less=[{"kind": "always", "actions": ["pay"], "when": "context.amount > 5 && principal.trust == 7"}],
    )
    # `less` says more than `serve`; so `serve` and `more` follow from it, and not the other way round.
    assert check(sessions, constitution) == {("implied", "serve"), ("implied", "more")}


def test_a_prohibition_is_implied_where_allowing_would_lead_to_what_is_forbidden(sessions: Sessions):
    rise = [{"kind": "monotone_in", "actions": ["pay"], "attribute": "principal.trust"}]
    stop = [{"kind": "never", "actions": ["pay"], "when": "principal.trust == 5 && resource.frozen"}]
    below = [{"kind": "never", "actions": ["pay"], "when": "principal.trust < 4 && resource.frozen"}]
    above = [{"kind": "never", "actions": ["pay"], "when": "principal.trust > 6 && resource.frozen"}]
    assert check(sessions, law(rise=rise, stop=stop, below=below)) == {("implied", "below")}
    # Whoever may at 5 may at 7; so 5 is out, and not the other way round.
    assert check(sessions, law(rise=rise, stop=stop, above=above)) == {("implied", "stop")}


def test_an_invariant_about_no_request_is_vacuous(sessions: Sessions):
    constitution = law(
        empty=[{"kind": "never", "when": "context.amount < 3 && context.amount > 5"}],
        promise=[{"kind": "always", "actions": ["pay"], "when": "principal.trust == 1 && principal.trust == 2"}],
        large=[{"kind": "never", "when": "context.amount > 1000"}],
    )
    assert check(sessions, constitution) == {("vacuous", "empty"), ("vacuous", "promise")}


# --- suggestions ---


def refuted(sessions: Sessions, policies: str, constitution: dict[str, Any]) -> list[Obligation]:
    found = results(sessions, "verify", {"policies": policies, "constitution": constitution})
    return [o for o in map(Obligation.model_validate, found) if o.verdict == "refuted"]


def test_a_suggested_exception_makes_the_obligation_hold_when_it_is_made(sessions: Sessions):
    constitution = law(freeze=[{"kind": "never", "actions": ["pay"], "when": "resource.frozen"}])
    text = P.format("a", "context.amount < 100") + P.format("b", "context.approved") + P.format("c", "!resource.frozen")
    (obligation,) = refuted(sessions, text, constitution)
    suggestion = obligation.suggestion
    assert suggestion is not None
    assert suggestion.policy_ids == ["a", "b"]
    for policy in ("context.amount < 100", "context.approved"):
        text = text.replace(f"{policy} }};", f"{policy} }} {suggestion.add};")
    assert refuted(sessions, text, constitution) == []


def test_a_suggested_permit_makes_an_always_hold_when_it_is_added(sessions: Sessions):
    constitution = law(serve=[{"kind": "always", "actions": ["view"], "when": "context.approved"}])
    (obligation,) = refuted(sessions, PAY, constitution)
    assert obligation.suggestion is not None
    assert obligation.suggestion.policy_ids == []
    assert refuted(sessions, f"{PAY}\n{obligation.suggestion.add}", constitution) == []


def test_where_a_forbid_stands_against_it_no_permit_is_suggested(sessions: Sessions):
    constitution = law(serve=[{"kind": "always", "actions": ["view"], "when": "context.approved"}])
    (obligation,) = refuted(sessions, "forbid(principal, action, resource) when { resource.frozen };", constitution)
    assert obligation.suggestion is None


def test_an_exception_is_suggested_for_a_forbid_that_stands_against_an_always(sessions: Sessions):
    constitution = law(serve=[{"kind": "always", "actions": ["view"], "when": "context.approved"}])
    forbid = '@id("ice") forbid(principal, action, resource) when {{ resource.frozen }}{};'
    text = "permit(principal, action, resource);\n" + forbid.format("")
    (obligation,) = refuted(sessions, text, constitution)
    suggestion = obligation.suggestion
    assert suggestion is not None
    assert (suggestion.policy_ids, suggestion.edit) == (["ice"], "append")
    text = text.replace(forbid.format(""), forbid.format(f" {suggestion.add}"))
    assert refuted(sessions, text, constitution) == []
    # Nothing else than what the invariant demands is excepted.
    answers = ask(sessions, text, when="resource.frozen && !context.approved")
    assert {a.answer for a in answers.values()} == {"no"}


def test_bounds_are_suggested_for_a_permit_that_calculates_out_of_range(sessions: Sessions):
    head, condition = '@id("sum") permit(principal, action, resource)', "when { context.amount + principal.trust < 10 }"
    (obligation, _) = refuted(sessions, f"{head} {condition};", law(words=[]))
    suggestion = obligation.suggestion
    assert suggestion is not None
    assert (obligation.kind, suggestion.policy_ids, suggestion.edit) == ("never_errors", ["sum"], "prepend")
    assert str(10**18) in suggestion.add, "the widest bounds that do"
    assert refuted(sessions, f"{head} {suggestion.add} {condition};", law(words=[])) == []


def test_a_forbid_that_calculates_out_of_range_is_to_forbid_there(sessions: Sessions):
    text = '@id("triple") forbid(principal, action, resource) when { context.amount * 3 > 10 } unless { context.approved };'
    (obligation, _) = refuted(sessions, text, law(words=[]))
    suggestion = obligation.suggestion
    assert suggestion is not None
    assert (suggestion.policy_ids, suggestion.edit) == (["triple"], "replace")
    permit = "permit(principal, action, resource);"
    assert refuted(sessions, f"{permit}\n{suggestion.add}", law(words=[])) == []
    answers = ask(sessions, f"{permit}\n{suggestion.add}", when="context.amount > 5000000000000000000")
    assert {a.answer for a in answers.values()} == {"no"}
    answers = ask(sessions, f"{permit}\n{suggestion.add}", when="context.amount == 5 && context.approved")
    assert {a.answer for a in answers.values()} == {"yes"}


def test_what_dots_cannot_write_is_refuted_without_an_edit(sessions: Sessions):
    schema = SCHEMA.replace("amount: Long", 'amount: Long, "if": Long, "a b": Long')
    text = 'permit(principal, action, resource) when { context["if"] + context["a b"] < 10 };'
    data = {"policies": text, "constitution": {**law(words=[]), "schema_text": schema}}
    found = [Obligation.model_validate(o) for o in results(sessions, "verify", data)]
    assert {(o.verdict, o.suggestion) for o in found} == {("refuted", None)}


BLIND = {
    "indifferent_to": {"kind": "indifferent_to", "actions": ["pay"], "attributes": ["principal.region"]},
    "monotone_in": {"kind": "monotone_in", "actions": ["pay"], "attribute": "principal.trust"},
}


@pytest.mark.parametrize(
    ("invariant", "culprit", "instead"),
    [
        ("indifferent_to", 'permit(principal, action, resource) when { principal.region == "eu" };', None),
        (
            "indifferent_to",
            'forbid(principal, action, resource) when { resource.frozen } unless { principal.region == "eu" };',
            "forbid when { resource.frozen };",
        ),
        ("monotone_in", "permit(principal, action, resource) when { principal.trust < 70 };", None),
        (
            "monotone_in",
            "forbid(principal, action, resource) when { principal.trust > 70 } when { context.approved };",
            "forbid when { context.approved };",
        ),
    ],
)
def test_what_must_make_no_difference_is_left_out_and_nothing_more_is_permitted(
    sessions: Sessions, invariant: str, culprit: str, instead: str | None
):
    constitution = law(blind=[BLIND[invariant]])
    rest = "permit(principal, action, resource) when { context.amount < 5 };"
    (obligation,) = refuted(sessions, f'{rest}\n@id("culprit") {culprit}', constitution)
    suggestion = obligation.suggestion
    assert suggestion is not None
    assert (suggestion.policy_ids, suggestion.edit) == (["culprit"], "replace")
    words = " ".join(
        suggestion.add.replace('@id("culprit")', "").replace("(\n  principal,\n  action,\n  resource\n)", "").split()
    )
    assert words == (instead or "")
    edited = f"{rest}\n{suggestion.add}"
    assert refuted(sessions, edited, constitution) == []
    data = {"schema_text": SCHEMA, "old": f'{rest}\n@id("culprit") {culprit}', "new": edited}
    assert {answer["change"] for answer in results(sessions, "compare", data)} <= {"narrows", "unchanged"}


def test_a_question_under_another_schema_than_the_constitutions_is_refused(sessions: Sessions):
    constitution = law(large=[{"kind": "never", "when": "context.amount > 1000"}])
    data = {"schema_text": SCHEMA + "\n", "policies": PAY, "constitution": constitution}
    with pytest.raises(InvalidConstitution):
        sessions.open("question", data)

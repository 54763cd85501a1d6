"""Refuted obligations of every kind with the edit that mends them: made in the policies, it proves."""

from typing import Any

import acgs1_kernel as kernel
import pytest

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import Obligation, Suggestion
from acgs1.services.formal_verification.adapters.kernel import obligations as kernel_obligations
from acgs1.services.formal_verification.adapters.kernel.sessions import Sessions

SCHEMA = """
entity Agent { trust: Long, age: Long };
entity Account { frozen: Bool };
action pay appliesTo { principal: [Agent], resource: [Account],
  context: { amount: Long, fee?: Long, approved: Bool } };
"""
NEVER_FROZEN = {"kind": "never", "when": "resource.frozen"}
ALWAYS_APPROVED = {"kind": "always", "when": "context.approved && context.amount < 100"}
INDIFFERENT = {"kind": "indifferent_to", "attributes": ["principal.age"]}
MONOTONE = {"kind": "monotone_in", "attribute": "principal.trust"}


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return Sessions(solver_timeout_ms=10_000, second_opinion_ms=0)


def obligations(sessions: Sessions, policies: str, *invariants: dict[str, Any]) -> list[Obligation]:
    said = [
        {"id": f"p{n}", "title": "p", "text": "p", "category": "c", "priority": 1, "invariants": [invariant]}
        for n, invariant in enumerate(invariants)
    ]
    law = Constitution.model_validate({"name": "law", "schema_text": SCHEMA, "principles": said})
    data = {"policies": policies, "constitution": law.model_dump(mode="json")}
    session = sessions.open("verify", data)
    return [Obligation.model_validate(session.run(index)) for index in range(len(session.plan()["items"]))]


def refuted(sessions: Sessions, policies: str, *invariants: dict[str, Any]) -> list[Obligation]:
    return [
        obligation for obligation in obligations(sessions, policies, *invariants) if obligation.verdict == "refuted"
    ]


def made(policies: str, suggestion: Suggestion) -> str:
    """The policies with the edit, as a person would make it."""
    texts: list[str] = []
    for policy in kernel.parse_policies(policies) if policies else ():
        text = policy.text.strip().removesuffix(";")
        if policy.id not in suggestion.policy_ids:
            texts.append(f"{text};")
        elif suggestion.edit == "append":
            texts.append(f"{text}\n{suggestion.add};")
        elif suggestion.edit == "prepend":
            head, _, conditions = text.partition("when {")
            texts.append(f"{head}\n{suggestion.add}\nwhen {{{conditions};")
    return "\n".join([*texts, suggestion.add if suggestion.edit in ("policy", "replace") else ""])


ANY = '@id("any") permit(principal, action, resource);'
CASES = {
    "never: an exception for the permit": (ANY, [NEVER_FROZEN], ["any"], "unless { (resource.frozen) }"),
    "always: a permit": ("", [ALWAYS_APPROVED], [], "permit"),
    "always: an exception for the forbid that blocks it": (
        ANY + '@id("no") forbid(principal, action, resource) when { resource.frozen };',
        [ALWAYS_APPROVED],
        ["no"],
        "unless { (context.approved && context.amount < 100) }",
    ),
    "always: an exception for each of two forbids": (
        ANY
        + '@id("no") forbid(principal, action, resource) when { resource.frozen };'
        + '@id("poor") forbid(principal, action, resource) when { principal.trust < 5 };',
        [ALWAYS_APPROVED],
        ["no", "poor"],
        "unless { (context.approved && context.amount < 100) }",
    ),
    "indifferent_to: without the permit": (
        '@id("old") permit(principal, action, resource) when { context.approved && principal.age > 30 };',
        [INDIFFERENT],
        ["old"],
        "",
    ),
    "indifferent_to: a permit and a forbid that both read it": (
        '@id("old") permit(principal, action, resource) when { principal.age > 30 };'
        '@id("rest") permit(principal, action, resource) when { context.approved };'
        '@id("no") forbid(principal, action, resource) when { context.amount > 10 } unless { principal.age > 40 };',
        [INDIFFERENT],
        ["no", "old"],
        "context.amount",
    ),
    "monotone_in: without the one permit that falls": (
        '@id("low") permit(principal, action, resource) when { context.amount < 10 && principal.trust < 50 };'
        '@id("high") permit(principal, action, resource) when { principal.trust > 60 };',
        [MONOTONE],
        ["low"],
        "",
    ),
    "never_errors: bounds before the sum of a permit": (
        '@id("sum") permit(principal, action, resource) when { context.amount + principal.trust > 10 };',
        [],
        ["sum"],
        "1000000000000000000",
    ),
    "never_errors: narrower bounds before a product": (
        '@id("rate") permit(principal, action, resource) when { context.amount * 3000 > 10 };',
        [],
        ["rate"],
        "context.amount <= 1000000000000000",
    ),
    "never_errors: a forbid forbids where it cannot calculate": (
        '@id("cap") forbid(principal, action, resource) when { context.amount * 3 > 10 };',
        [],
        ["cap"],
        "!(",
    ),
}


@pytest.mark.parametrize(("policies", "invariants", "ids", "edit"), CASES.values(), ids=CASES)
def test_the_edit_is_the_known_one_and_with_it_the_obligation_is_proved(
    sessions: Sessions, policies: str, invariants: list[dict[str, Any]], ids: list[str], edit: str
):
    (obligation,) = refuted(sessions, policies, *(invariants or [INDIFFERENT]))
    suggestion = obligation.suggestion
    assert suggestion is not None
    assert suggestion.policy_ids == ids
    assert edit in " ".join(suggestion.add.split())
    after = obligations(sessions, made(policies, suggestion), *(invariants or [INDIFFERENT]))
    assert after
    assert {found.verdict for found in after} == {"proved"}


def test_no_edit_is_suggested_where_a_guard_of_the_constitution_blocks_an_always(sessions: Sessions):
    (obligation,) = refuted(sessions, "", NEVER_FROZEN, {"kind": "always", "when": "resource.frozen"})
    assert obligation.kind == "always"
    assert obligation.suggestion is None


def test_no_edit_is_suggested_where_nothing_permits_what_a_forbid_also_stops(sessions: Sessions):
    (obligation,) = refuted(sessions, '@id("no") forbid(principal, action, resource);', ALWAYS_APPROVED)
    assert obligation.suggestion is None


def test_a_search_that_runs_out_of_time_costs_the_edit_and_not_the_verdicts(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kernel_obligations, "_SUGGESTION_TIMEOUTS", 0.0)
    policies = '@id("old") permit(principal, action, resource) when { principal.age > 30 };'
    found = obligations(
        sessions, policies, NEVER_FROZEN, ALWAYS_APPROVED, {"kind": "never", "when": "principal.age < 30"}
    )
    claims = [(o.kind, o.verdict, o.suggestion) for o in found if o.kind != "never_errors"]
    assert claims == [("never", "refuted", None), ("always", "refuted", None), ("never", "proved", None)]

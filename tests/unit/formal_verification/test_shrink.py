"""Counterexamples are made readable without ceasing to be counterexamples."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acgs1.services.formal_verification.adapters.kernel import explain
from acgs1.services.formal_verification.adapters.kernel.shrink import Case, shrink, simpler_extensions


def case(amount: int = 9_223_372, **context: Any) -> Case:
    who, what = {"type": "BigAgent", "id": "\u0001!x"}, {"type": "Account", "id": ""}
    entities = [
        {"uid": who, "attrs": {"trust": 77, "owner": {"__entity": {"type": "Person", "id": "z"}}}, "parents": []},
        {"uid": what, "attrs": {"labels": ["q", "w"], "frozen": True}, "parents": [{"type": "Bank", "id": "k"}]},
        {"uid": {"type": "Person", "id": "z"}, "attrs": {"age": 5}, "parents": []},
        {"uid": {"type": "Bank", "id": "k"}, "attrs": {}, "parents": []},
    ]
    return Case(who, 'Action::"pay"', what, {"amount": amount, **context}, entities)


def test_everything_that_does_not_matter_goes_and_the_threshold_is_exact():
    found = shrink(case(note="x", deep={"a": 1}), lambda c: c.context.get("amount", 0) > 612)
    assert found.context == {"amount": 613}
    assert found.principal == {"type": "BigAgent", "id": "big-agent-1"}
    assert found.resource == {"type": "Account", "id": "account-1"}
    assert [e["uid"]["type"] for e in found.entities] == ["BigAgent", "Account"]
    assert all(e["attrs"] == {} and e["parents"] == [] for e in found.entities)


def test_an_entity_that_something_refers_to_stays():
    def shows(c: Case) -> bool:
        return any("owner" in e["attrs"] for e in c.entities)

    found = shrink(case(), shows)
    (owner,) = [e["attrs"]["owner"]["__entity"] for e in found.entities if "owner" in e["attrs"]]
    assert owner in [e["uid"] for e in found.entities]


def test_an_id_that_matters_is_kept_while_the_others_are_renamed():
    found = shrink(case(), lambda c: c.resource["id"] == "")
    assert found.resource["id"] == ""
    assert found.principal["id"] == "big-agent-1"


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-1000, 1000), st.booleans())
def test_what_is_returned_always_still_shows(amount: int, bound: int, above: bool):
    def shows(c: Case) -> bool:
        value = c.context.get("amount")
        return value is not None and (value >= bound if above else value <= bound)

    start = case(amount)
    if shows(start):
        found = shrink(start, shows)
        assert shows(found)
        assert abs(found.context["amount"]) <= abs(amount)


def test_the_budget_bounds_the_replays():
    calls = 0

    def shows(_: Case) -> bool:
        nonlocal calls
        calls += 1
        return calls % 3 != 0

    shrink(case(), shows, budget=50)
    assert calls <= 50


def test_facts_are_the_values_of_what_the_condition_reads():
    shown = explain.facts(
        case(7, note="n"),
        'context.amount > 5 && resource.labels.contains("q") && principal.owner.age < 9 && context.missing == 1',
    )
    assert (
        shown
        == ' with context.amount = 7, resource.labels = ["q", "w"], principal.owner.age = 5, context.missing = (absent)'
    )


def extension(name: str, argument: str) -> dict[str, Any]:
    return {"__extn": {"fn": name, "arg": argument}}


def offset(milliseconds: int) -> dict[str, Any]:
    arguments = [extension("datetime", "1970-01-01"), extension("duration", f"{milliseconds}ms")]
    return {"__extn": {"fn": "offset", "args": arguments}}


@pytest.mark.parametrize(
    ("value", "simplest", "plain"),
    [
        (offset(0), "1970-01-01", "1970-01-01"),
        (offset(-1), "1970-01-01", "1969-12-31T23:59:59.999Z"),
        (offset(1_767_225_600_000), "1970-01-01", "2026-01-01"),
        (extension("decimal", "-12.3456"), "0.0", "-12.0"),
        (extension("ip", "0.0.0.0/32"), "10.0.0.1", "0.0.0.0"),
        (extension("duration", "17ms"), "0ms", "17ms"),
    ],
)
def test_an_extension_value_is_tried_plain_before_it_is_written_plainly(value: Any, simplest: str, plain: str):
    tried = [each["__extn"]["arg"] for each in simpler_extensions(value)]
    assert (tried[0], tried[-1]) == (simplest, plain)


def test_a_time_beyond_what_cedar_can_write_stays_as_it_is():
    assert list(simpler_extensions(offset(2**62))) == []


def test_a_duration_that_must_be_long_becomes_a_round_one():
    endless = extension("duration", "9223372036854775807ms")

    def shows(c: Case) -> bool:
        return c.context.get("for", {}).get("__extn", {}).get("arg") in {
            "9223372036854775807ms",
            "2h",
            "1d",
            "7d",
            "30d",
            "365d",
        }

    assert shrink(case(**{"for": endless}), shows).context["for"] == extension("duration", "2h")


def test_a_record_is_shown_with_its_members():
    one = case(where={"zone": "eu", "codes": [1, 2]})
    assert explain.facts(one, "context.where == resource.where") == (
        ' with context.where = {zone: "eu", codes: [1, 2]}, resource.where = (absent)'
    )

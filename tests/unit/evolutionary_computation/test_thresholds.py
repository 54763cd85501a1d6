"""Which literal is the threshold, and which thresholds differ."""

import json

import acgs1_kernel as kernel
import pytest

from acgs1.services.evolutionary_computation.domain.literals import CannotTune, Literal, find_literal
from acgs1.services.evolutionary_computation.domain.space import axis, change, size, variants


def parse(text: str) -> dict[str, object]:
    try:
        (est,) = json.loads(kernel.policies_to_json(text))["staticPolicies"].values()
    except kernel.CedarParseError as error:
        raise ValueError(str(error)) from None
    return est


def literal(text: str, attribute: str = "context.amount") -> Literal:
    return find_literal(text, parse(text), attribute, parse)


def when(condition: str) -> str:
    return f'@note("100") // 100\nforbid (principal, action, resource) when {{ {condition} }};'


@pytest.mark.parametrize(
    ("condition", "value", "tuned"),
    [
        ("context.amount > 100", 100, "context.amount > 7"),
        ("100 >= context.amount", 100, "7 >= context.amount"),
        ("context.amount > -100", -100, "context.amount > 7"),
        ("context.amount >  - 100", -100, "context.amount >  7"),
        ("context.other > 100 && context.amount == 100", 100, "context.other > 100 && context.amount == 7"),
        ("context.other - 100 > context.x || context.amount != 100", 100, None),
        ('["100", "a"].contains(context.s) && context.amount < 100', 100, None),
        ("if context.b then context.amount < 0 else context.c == 0", 0, None),
    ],
)
def test_the_threshold_is_the_literal_that_the_attribute_is_compared_with(
    condition: str, value: int, tuned: str | None
) -> None:
    text = when(condition)
    found = literal(text)
    assert found.value == value
    spliced = f"{text[: found.start]}7{text[found.end :]}"
    assert spliced.startswith('@note("100") // 100\n')
    if tuned is not None:
        assert spliced == when(tuned)
    assert literal(spliced).value == 7


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("context.other > 100", "no whole numbers"),
        ("context.amount > 100 || context.amount < 1", "2 whole numbers"),
        ("context.amount > context.limit", "no whole numbers"),
        ("context.amount + 1 > 100", "no whole numbers"),
    ],
)
def test_anything_but_one_literal_is_refused(condition: str, reason: str) -> None:
    with pytest.raises(CannotTune, match=reason):
        literal(when(condition))


def test_thresholds_between_two_values_are_one_class_and_the_nearest_to_the_baseline_stands_for_it() -> None:
    found = axis(20, 0, 50, [10, 30, 10, 70, -5])
    assert found.ends == ((0, 9), (10, 10), (11, 29), (30, 30), (31, 50))
    assert found.members == (9, 10, 20, 30, 31)
    assert len({found.side(t) for t in range(51)}) == 5
    assert size([found, found]) == 25
    assert change((found,), (31,)) == 11 / 50


def test_a_range_of_one_value_is_one_class() -> None:
    found = axis(5, 5, 5, [5])
    assert found.members == (5,)


def test_the_variants_of_a_genome_are_its_equals_for_the_outcomes() -> None:
    found = axis(20, 0, 50, [10, 30])
    assert variants((found,), (20,)) == {(20,), (11,), (29,)}
    assert {found.side(v) for (v,) in variants((found,), (31,))} == {found.side(31)}

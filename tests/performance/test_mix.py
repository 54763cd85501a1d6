"""What the load asks for: skewed as people ask, with right answers that are worked out without the system."""

import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.load import inputs  # noqa: E402
from benchmarks.load.mix import Popularity  # noqa: E402

from acgs1.kit.constitution_file import load_constitution  # noqa: E402
from acgs1.runtime.demo import example_folder  # noqa: E402


def test_the_first_of_many_documents_is_asked_for_most_and_the_last_one_too():
    random, popularity = Random(1), Popularity(50)
    drawn = Counter(popularity.draw(random) for _ in range(20_000))
    assert set(drawn) == set(range(50))
    # 1/n: the first twice as often as the second, ten times as often as the tenth.
    assert drawn[0] / drawn[1] == pytest.approx(2, rel=0.15)
    assert drawn[0] / drawn[9] == pytest.approx(10, rel=0.25)


def outcome(amount: int, should: str) -> dict[str, object]:
    return {"request": {"context": {"amount": amount}}, "should": should}


def test_the_best_agreement_is_that_of_the_best_threshold_below_the_ceiling():
    labelled = [outcome(100, "allow"), outcome(200, "allow"), outcome(300, "deny"), outcome(450, "allow")]
    assert inputs.agreement(labelled, 200) == pytest.approx(3 / 4)
    # Above the ceiling the constitution denies, whatever the threshold.
    assert inputs.agreement(labelled, 600) == pytest.approx(2 / 4)
    assert inputs.best_agreement(labelled) == pytest.approx(3 / 4)


def test_every_number_makes_another_content():
    made = inputs.Inputs(load_constitution(example_folder() / "constitution.yaml"))
    assert len({made.amendment(n).hash for n in (7, 8, 9)}) == 3
    assert len({made.law(n).hash for n in (7, 8, 9)}) == 3
    assert made.rules(7) != made.rules(8)
    fresh = inputs.fresh_numbers()
    assert next(fresh) != next(fresh)


def test_what_must_be_drafted_differs_from_the_pattern_in_the_number_alone():
    made = inputs.Inputs(load_constitution(example_folder() / "constitution.yaml"))
    pattern = made.pattern().principles[1].text
    assert made.as_drafted(pattern, 7_654_321) == made.to_draft(7_654_321).principles[1].text

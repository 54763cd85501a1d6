"""When two solvers disagree, nobody is believed, and what they disagree about is kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from acgs1.services.formal_verification.adapters.kernel import prover
from acgs1.services.formal_verification.adapters.kernel.prover import Provers
from acgs1.services.formal_verification.adapters.kernel.second_opinion import SecondOpinion
from acgs1.services.formal_verification.app import create_app
from factories import running, settings

SCHEMA = "entity A; entity B { n: Long }; action x appliesTo { principal: [A], resource: [B], context: { m: Long } };"
A = "permit(principal, action, resource) when { resource.n > 1 && context.m < resource.n };"
B = "permit(principal, action, resource) when { resource.n > 0 };"
PLACE = ("A", 'Action::"x"', "B")


def test_z3_agrees_with_what_cvc5_proved():
    answer = Provers(second_opinion_ms=20_000).ask("implies", SCHEMA, PLACE, A, B)
    assert (answer.verdict, answer.second_opinion) == ("proved", "agrees")


def test_without_time_for_a_second_opinion_none_is_claimed():
    answer = Provers(second_opinion_ms=0).ask("implies", SCHEMA, PLACE, A, B)
    assert (answer.verdict, answer.second_opinion) == ("proved", "not_run")


def test_a_disagreement_is_unknown_and_leaves_a_reproducer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prover.SecondOpinion, "on", lambda _self, _script: ("sat", 1.0))
    provers = Provers(second_opinion_ms=1000)
    answer = provers.ask("implies", SCHEMA, PLACE, A, B)
    assert (answer.verdict, answer.reason) == ("unknown", "cvc5 and z3 disagree")
    (defect,) = provers.take_defects()
    assert (defect["a"], defect["b"], defect["schema"]) == (A, B, SCHEMA)
    assert "(check-sat)" in defect["script"]
    assert provers.take_defects() == []


@pytest.mark.parametrize(
    ("script", "opinion"),
    [
        ("(declare-const x Int)(assert (< x 0))(assert (> x 0))(check-sat)", "unsat"),
        ("(declare-const x Int)(assert (< x 0))(check-sat)", "sat"),
        ("(assert (nonsense))(check-sat)", "unknown"),
        ("(check-sat)(assert false)(check-sat)", "sat"),
        ("", "unknown"),
    ],
)
def test_only_a_script_whose_every_query_is_unsatisfiable_counts_as_agreement(script: str, opinion: str):
    assert SecondOpinion(10_000).on(script)[0] == opinion


def test_nothing_of_a_script_is_left_for_the_next_one():
    z3 = SecondOpinion(10_000)
    first = "(declare-const x Int)(define-fun f () Bool (< x 0))(assert f)(assert (not f))(check-sat)"
    assert z3.on(first)[0] == "unsat"
    assert z3.on("(declare-const x Int)(assert (< x 0))(check-sat)")[0] == "sat"
    assert z3.on(first)[0] == "unsat"
    assert z3.on("(assert f)(check-sat)")[0] == "unknown", "`f` is declared nowhere in this script"


async def test_a_reproducer_is_stored_privately_under_its_hash(tmp_path: Path):
    defect: dict[str, Any] = {"defect": "cvc5 and z3 disagree", "a": A}
    async with running(create_app, settings(tmp_path)) as room:
        room.app.state.pool._on_defect(defect)
    (file,) = (tmp_path / "reproducers").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()) == defect

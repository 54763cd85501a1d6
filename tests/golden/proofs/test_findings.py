"""Planted defects that are no breach of an invariant: hygiene, contradictions, changes. Each is found, and nothing else."""

from pathlib import Path
from typing import Any

import acgs1_kernel as kernel
import pytest
import yaml

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import Counterexample, EnvironmentChange
from acgs1.services.formal_verification.adapters.kernel.sessions import Sessions
from acgs1.services.formal_verification.domain import constitution_outcome, hygiene_outcome

FINDINGS = Path(__file__).parent / "findings"


def cases(name: str) -> list[Any]:
    document = yaml.safe_load((FINDINGS / f"{name}.yaml").read_text())
    return [pytest.param({**document, **case}, id=case["name"]) for case in document["cases"]]


def constitution(schema: str, invariants: list[dict[str, Any]]) -> dict[str, Any]:
    principles = [
        {"id": f"p{n}", "title": "p", "text": "p", "category": "c", "priority": 1, "invariants": [each]}
        for n, each in enumerate(invariants)
    ]
    law = Constitution.model_validate({"name": "law", "schema_text": schema, "principles": principles})
    return law.model_dump(mode="json")


def run(kind: Any, data: dict[str, Any]) -> list[dict[str, Any]]:
    session = Sessions(solver_timeout_ms=20_000, second_opinion_ms=0).open(kind, data)
    return [session.run(index) for index in range(len(session.plan()["items"]))]


@pytest.mark.parametrize("case", cases("hygiene"))
def test_a_defect_of_policies_is_found_and_no_other(case: dict[str, Any]):
    policies = f"{case['policies']}\n{case.get('add', '')}"
    law = constitution(case["schema"], [case["invariant"]])
    outcome = hygiene_outcome(run("hygiene", {"policies": policies, "constitution": law}))
    assert outcome.unanswered == []
    found = {(finding.kind, *finding.policy_ids) for finding in outcome.findings}
    assert found == {tuple(each) for each in case["finds"]}


@pytest.mark.parametrize("case", cases("constitutions"))
def test_a_contradiction_or_repetition_is_found_and_no_other(case: dict[str, Any]):
    data = {"constitution": constitution(case["schema"], case["invariants"])}
    outcome = constitution_outcome(run("constitution", data))
    assert outcome.unanswered == []
    found = {(finding.kind, *finding.principle_ids) for finding in outcome.findings}
    assert found == {tuple(each) for each in case["finds"]}


@pytest.mark.parametrize("case", cases("changes"))
def test_a_change_is_judged_by_its_meaning_with_an_example_in_each_direction(case: dict[str, Any]):
    data = {"schema_text": case["schema"], "old": case["old"], "new": case["new"]}
    changes = [EnvironmentChange.model_validate(result) for result in run("compare", data)]
    assert {kernel_action(each): each.change for each in changes} == case["finds"]
    for each in changes:
        assert (each.newly_allowed is not None) == (each.change in {"widens", "both"})
        assert (each.newly_denied is not None) == (each.change in {"narrows", "both"})
        for example in filter(None, (each.newly_allowed, each.newly_denied)):
            decided = ["allow" if _allowed(case, text, example) else "deny" for text in (case["old"], case["new"])]
            assert example.decisions == decided


def kernel_action(change: EnvironmentChange) -> str:
    return change.environment.action.partition('"')[2].rstrip('"')


def _allowed(case: dict[str, Any], policies: str, example: Counterexample) -> bool:
    engine = kernel.Engine(case["schema"], policies)
    return engine.authorize(
        example.principal, example.action, example.resource, example.context, example.entities
    ).allowed

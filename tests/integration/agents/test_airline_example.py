"""The example that ships: its documents load, its policies comply, its calls get the decisions it documents."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from acgs1_kernel import Engine, Prover, load_cvc5, request_envs, validate_policies

from acgs1.agents.calls import ToolCall, evaluation_request
from acgs1.agents.enforce import EnforcementPoint, Executed
from acgs1.agents.local import LocalDecisionPoint
from acgs1.contracts.constitution import Always, Constitution, Never
from acgs1.contracts.evolutionary_computation import LabelledOutcome, Tunable
from acgs1.contracts.guards import guards_of, scope_text

FOLDER = Path(__file__).parents[3] / "examples" / "airline"
CALLS: list[dict[str, Any]] = json.loads((FOLDER / "agent_calls.json").read_text(encoding="utf-8"))["calls"]


def _law() -> Constitution:
    document = yaml.safe_load((FOLDER / "constitution.yaml").read_text(encoding="utf-8"))
    document["schema_text"] = (FOLDER / document.pop("schema_file")).read_text(encoding="utf-8")
    return Constitution.model_validate(document)


LAW = _law()
POLICIES = (FOLDER / "policies.cedar").read_text(encoding="utf-8")


def _desk() -> Any:
    spec = importlib.util.spec_from_file_location("airline_desk", FOLDER / "desk.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Desk.load(FOLDER / "database.json")


def _refuted(policies: str) -> set[str]:
    """Principles whose `never` or `always` invariants `policies` break, in some environment of their scope."""
    load_cvc5()
    prover = Prover(LAW.schema_text)
    refuted: set[str] = set()
    for principle in LAW.principles:
        for invariant in principle.invariants:
            if not isinstance(invariant, Never | Always):
                continue
            scope = scope_text(invariant)
            if isinstance(invariant, Never):
                # The ceiling permits everything but what is in scope and forbidden.
                ceiling = f"permit (principal, action, resource);\nforbid ({scope}) when {{ {invariant.when} }};"
                pair = (policies, ceiling)
            else:
                pair = (f"permit ({scope}) when {{ {invariant.when} }};", policies)
            for env in request_envs(LAW.schema_text):
                result = prover.check_one("implies", *pair, env=env)
                assert result.verdict != "unknown", result.reason
                if result.verdict == "refuted":
                    refuted.add(principle.id)
    return refuted


def test_the_policies_and_the_guards_are_valid_under_the_schema() -> None:
    guards, principle_of = guards_of(LAW)
    assert validate_policies(LAW.schema_text, POLICIES) == []
    assert len(Engine(LAW.schema_text, POLICIES, guards)) > len(principle_of) > 0


def test_the_policies_are_proved_to_keep_every_never_and_always() -> None:
    assert _refuted(POLICIES) == set()


def test_permitting_everything_is_refuted_by_every_never() -> None:
    forbidding = {p.id for p in LAW.principles if any(isinstance(i, Never) for i in p.invariants)}
    assert _refuted("permit (principal, action, resource);") == forbidding


@pytest.mark.parametrize("recorded", CALLS, ids=[call["id"] for call in CALLS])
async def test_a_recorded_call_gets_the_decision_that_it_documents(recorded: dict[str, Any]) -> None:
    desk, decider = _desk(), LocalDecisionPoint(LAW, POLICIES)
    before = json.dumps(desk.records)
    call = ToolCall(recorded["tool"], recorded["arguments"], recorded["agent"], recorded["customer"])
    outcome = await EnforcementPoint(desk.tools, desk, decider).call(call)
    expected = recorded["expect"]
    assert isinstance(outcome, Executed) == (expected["decision"] == "allow")
    if isinstance(outcome, Executed):
        return
    assert sorted(outcome.principles) == sorted(expected["principles"])
    assert json.dumps(desk.records) == before
    answer = decider.decide(evaluation_request(call, await desk.facts(call)))
    assert (answer.context["reason"] == "approval_required") == (expected.get("with_approval") == "allow")


def test_the_labels_are_about_one_threshold_that_exists() -> None:
    labels = json.loads((FOLDER / "labels.json").read_text(encoding="utf-8"))
    (tunable,) = [Tunable.model_validate(item) for item in labels["tunables"]]
    assert f'@id("{tunable.policy_id}")' in POLICIES
    outcomes = [LabelledOutcome.model_validate(item) for item in labels["outcomes"]]
    decider = LocalDecisionPoint(LAW, POLICIES)
    agreeing = sum(decider.decide(outcome.request).decision == (outcome.should == "allow") for outcome in outcomes)
    assert 0 < agreeing < len(outcomes)

"""The governor on the data that others wrote: no false denial, every broken rule named, and an independent reading of the rules agrees."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from acgs1.agents.calls import DecisionPoint
from acgs1.agents.client import GovernanceClient
from acgs1.agents.local import LocalDecisionPoint
from acgs1.cli.tau_airline import law
from acgs1.cli.tau_airline.command import tau_airline
from acgs1.cli.tau_airline.dataset import Dataset, DatasetInvalid
from acgs1.cli.tau_airline.replay import NoDecision, Replay, ReplayedCall
from acgs1.contracts.policy_governance import EvaluationRequest, EvaluationResponse
from acgs1.kit.breaker import Breakers
from acgs1.kit.clients import PartClient

NOW = datetime.fromisoformat("2024-05-15T15:00:00")


@pytest.fixture(scope="module")
def _datasets() -> dict[Path, Dataset]:
    return {}


@pytest.fixture
def dataset(shared_data: Path, _datasets: dict[Path, Dataset]) -> Dataset:
    root = shared_data / "tau_bench"
    if not root.is_dir():
        pytest.skip(f"no tau-bench data at {root}")
    return _datasets.setdefault(root, Dataset(root))


def cancellation_breaks(database: dict[str, Any], number: str, cabin: str) -> set[str]:
    """The rules for cancelling, read from the policy a second time and written without the product's code."""
    reservation = database["reservations"][number]
    statuses = [database["flights"][f["flight_number"]]["dates"][f["date"]]["status"] for f in reservation["flights"]]
    broken: set[str] = set()
    if "landed" in statuses or "flying" in statuses:
        broken.add("used-trips-stand")
    within_a_day = (NOW - datetime.fromisoformat(reservation["created_at"])).total_seconds() <= 24 * 3600
    if not (within_a_day or "cancelled" in statuses or cabin == "business" or reservation["insurance"] == "yes"):
        broken.add("grounds-for-cancelling")
    return broken


async def replayed(dataset: Dataset, runs: list[Any], decider: DecisionPoint | None = None) -> list[ReplayedCall]:
    replay = Replay(dataset, decider or LocalDecisionPoint(law.constitution(), law.policies()))
    return [call async for calls in replay.run(runs) for call in calls]


def test_the_report_finds_no_false_denial_and_lists_every_recorded_call_that_breaks_a_rule(
    dataset: Dataset, tmp_path: Path
) -> None:
    result = CliRunner().invoke(tau_airline, ["--data", str(dataset.root), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    correct, recorded = report["correct_calls"], report["recorded_runs"]
    assert (report["tasks"], report["runs"], correct["calls"], recorded["calls"]) == (50, 200, 158, 1164)
    assert correct["false_denials"] == []
    assert correct["listed_but_not_denied"] == []
    assert correct["denied"] == len(correct["recorded_calls_that_break_a_rule"]) == len(law.reviewed()["deviations"])
    assert recorded["denied"] == len(recorded["violations"]) > 0
    texts = {p.id: p.text for p in law.constitution().principles}
    assert all(v["rules"] == [texts[name] for name in v["principles"]] and v["rules"] for v in recorded["violations"])
    assert "False denials: 0" in (tmp_path / "report.md").read_text(encoding="utf-8")


async def test_every_cancellation_is_decided_as_an_independent_reading_of_the_rules_decides_it(
    dataset: Dataset,
) -> None:
    calls = await replayed(dataset, [*dataset.correct_calls(), *dataset.agent_runs()])
    pristine = dataset.database()
    checked = 0
    for call in calls:
        if call.tool == "cancel_reservation" and call.outcome != "unknown_record":
            number = call.arguments["reservation_id"]
            if number not in pristine["reservations"] or number in {
                c.arguments.get("reservation_id")
                for c in calls
                if c.tool == "update_reservation_flights"
                and (c.task, c.trial) == (call.task, call.trial)
                and c.index < call.index
            }:
                continue  # made or changed earlier in the conversation: the pristine database says nothing about it
            cabin = pristine["reservations"][number]["cabin"]
            assert set(call.principles) == cancellation_breaks(pristine, number, cabin), call
            checked += 1
    assert checked > 60


async def test_no_two_certificates_or_six_passengers_get_through_unnoticed(dataset: Dataset) -> None:
    pristine = dataset.database()
    for call in await replayed(dataset, [*dataset.correct_calls(), *dataset.agent_runs()]):
        if call.tool == "book_reservation" and call.outcome == "allowed":
            profile = pristine["users"][call.arguments["user_id"]]["payment_methods"]
            kinds = [
                profile.get(p["payment_id"], {"source": "none"})["source"] for p in call.arguments["payment_methods"]
            ]
            assert kinds.count("certificate") <= 1
            assert kinds.count("credit_card") <= 1
            assert len(call.arguments["passengers"]) <= 5


async def test_permitting_everything_lets_through_what_the_recorded_runs_did(dataset: Dataset) -> None:
    class Anything:
        async def evaluate(
            self, request: EvaluationRequest, *, approval: str | None = None, deadline: float = 2.0
        ) -> EvaluationResponse:
            return EvaluationResponse(decision=True)

    calls = await replayed(dataset, dataset.agent_runs(), Anything())
    assert dataset.is_pristine()
    assert {call.outcome for call in calls} == {"allowed"}


async def test_a_decision_point_that_cannot_judge_stops_the_replay_instead_of_counting_denials(
    dataset: Dataset,
) -> None:
    class NoBundle:
        async def evaluate(
            self, request: EvaluationRequest, *, approval: str | None = None, deadline: float = 2.0
        ) -> EvaluationResponse:
            return EvaluationResponse(decision=False, context={"reason": "no_active_bundle"})

    with pytest.raises(NoDecision, match="no_active_bundle"):
        await replayed(dataset, dataset.correct_calls(), NoBundle())


async def test_a_decision_point_behind_http_decides_as_the_kernel_in_this_process(dataset: Dataset) -> None:
    local = LocalDecisionPoint(law.constitution(), law.policies())

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200, text=local.decide(EvaluationRequest.model_validate_json(request.content)).model_dump_json()
        )

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        part = PartClient("agent", "policy_governance", "http://pdp", http, Breakers().get("agent->pdp"), None)
        over_http = await replayed(dataset, dataset.correct_calls(), GovernanceClient(part))
    assert over_http == await replayed(dataset, dataset.correct_calls())


def test_a_folder_that_is_not_the_data_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match=r"flights\.json"):
        Dataset(tmp_path)


def test_reading_the_tools_leaves_the_interpreter_and_the_folder_as_they_were(dataset: Dataset) -> None:
    import sys

    assert len(dataset.tools) == 14
    assert not [name for name in sys.modules if name.split(".")[0] == "tau_bench"]
    assert str(dataset.root) not in sys.path
    assert not list(dataset.root.rglob("__pycache__"))

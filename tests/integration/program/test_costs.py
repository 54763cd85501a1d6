"""The budgets of the ledger, measured on the shipped program."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

COSTS = Path(__file__).resolve().parents[3] / "benchmarks" / "ledger" / "costs.py"


@pytest.fixture(scope="module")
def costs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ledger_costs", COSTS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_shipped_program_stays_within_its_budgets(costs: ModuleType) -> None:
    rows, whole = costs.measure()
    worst = costs.many()
    assert costs.over_budget(rows, worst, whole) == []
    text = costs.markdown(rows, worst, whole, {"propose": 0, "vote": 0, "whole": 0}, [])
    published = (COSTS.parent / "results" / "costs.md").read_text()
    for line in (line for line in text.splitlines() if line.startswith("| ") and "Anchor" not in line):
        assert line in published, "the published table is another program's; run benchmarks/ledger/costs.py"


def test_each_budget_can_be_exceeded(costs: ModuleType) -> None:
    dear = costs.Worst("propose", 1, 5_001, 5_002, 8_501, 8_001)
    rows = [costs.Row("vote", 5_001, 6_001, 0), costs.Row("initialize", 1, 5_000, 10_000_000)]
    whole = {"20": {"locked": 3_500_001, "kept": 0, "spent": 150_001}}
    assert len(costs.over_budget(rows, [dear], whole)) == 9
    assert costs.over_budget([costs.Row("vote", 5_000, 6_000, 0)], [], {}) == []

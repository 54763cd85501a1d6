"""Scores are computed once for the same policies, labels and thresholds, whatever the seed; and anew for others."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from acgs1.contracts.evolutionary_computation import NewRun
from acgs1.kit.settings import PlatformSettings
from acgs1.optimizer.service import PerformanceOptimizer
from acgs1.optimizer.web import Reads
from acgs1.services.evolutionary_computation.adapters.fitness import RememberingBench
from governance import airline, airline_policies

BIG = 2**60


class Bench:
    """Counts the genomes it scores."""

    axes = ()
    names = ("a/b",)

    def __init__(self) -> None:
        self.scored: list[Any] = []

    async def prepare(self, request: NewRun) -> Any:
        return self

    async def scores(self, genomes: Sequence[Any]) -> list[float]:
        self.scored += genomes
        return [0.5] * len(genomes)

    def policies(self, genome: Any) -> str:
        return ""


@pytest.fixture
async def reads(tmp_path: Path) -> AsyncIterator[Reads]:
    optimizer = PerformanceOptimizer(PlatformSettings(home=tmp_path))
    await optimizer.initialize()
    yield Reads(optimizer, "evolutionary_computation")
    await optimizer.close()


def request(**changes: Any) -> NewRun:
    whole: dict[str, Any] = {
        "policies": airline_policies(),
        "constitution": airline(),
        "tunables": [],
        "outcomes": [],
        "seed": 1,
        "generations": 5,
    }
    return NewRun.model_construct(**{**whole, **changes})


async def test_a_run_that_is_carried_out_again_finds_its_scores(reads: Reads):
    bench = Bench()
    for seed in (1, 2, BIG):
        experiment = await RememberingBench(bench, reads).prepare(request(seed=seed))
        assert await experiment.scores([(BIG, 7), (3, 4)]) == [0.5, 0.5]
    assert bench.scored == [(BIG, 7), (3, 4)]
    other = await RememberingBench(bench, reads).prepare(request(policies=airline_policies() + "\n// changed"))
    await other.scores([(BIG, 7), (3, 4)])
    assert len(bench.scored) == 4

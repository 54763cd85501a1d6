"""Fitness that is not computed twice: the baseline's, and that of a run which a restart cut off."""

import asyncio
from collections.abc import Sequence

from acgs1.contracts.evolutionary_computation import NewRun
from acgs1.core.hashing import text_hash
from acgs1.optimizer.web import Reads
from acgs1.services.evolutionary_computation.domain.space import Axis, Genome
from acgs1.services.evolutionary_computation.ports import Bench, Experiment

FITNESS_SECONDS = 3600.0


class RememberingBench:
    """A Bench whose experiments look scores up under the hash of all that they depend on: policies, labels, thresholds."""

    def __init__(self, bench: Bench, reads: Reads) -> None:
        self._bench = bench
        self._reads = reads
        reads.declare("fitness", list[float], ttl=FITNESS_SECONDS)

    async def prepare(self, request: NewRun) -> Experiment:
        # The seed and the length of a run choose the genomes; they change no score.
        basis = await asyncio.to_thread(
            lambda: text_hash(request.model_dump_json(exclude={"seed", "generations"}))
        )  # thousands of labels: tens of milliseconds
        return _Remembering(await self._bench.prepare(request), self._reads, basis, request.constitution.hash)


class _Remembering:
    def __init__(self, experiment: Experiment, reads: Reads, basis: str, constitution: str) -> None:
        self._experiment = experiment
        self._reads = reads
        self._basis = basis
        self._constitution = constitution

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self._experiment.axes

    @property
    def names(self) -> tuple[str, ...]:
        return self._experiment.names

    async def scores(self, genomes: Sequence[Genome]) -> list[float]:
        params = {"basis": self._basis, "genomes": [[str(value) for value in genome] for genome in genomes]}

        async def compute() -> list[float]:
            return await self._experiment.scores(genomes)

        return await self._reads.get("fitness", params, compute, version=self._constitution)

    def policies(self, genome: Genome) -> str:
        return self._experiment.policies(genome)

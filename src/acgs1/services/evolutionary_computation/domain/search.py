"""The search: in full where the space is small, else (mu + lambda) evolution. Deterministic for a seed."""

import random
from bisect import bisect_left
from collections.abc import Generator
from itertools import islice, product
from typing import Literal

from acgs1.services.evolutionary_computation.domain.space import Axis, Genome, change, size, variants

Scores = dict[Genome, float]
"""Agreement with the labels of every genome that was scored."""

MU = 8
LAMBDA = 24
_SLICE = 32
# Combinations times outcomes: some seconds of one core for the first, some minutes at the very worst for the second.
_EXHAUSTIVE_WORK = 4_000_000
_EVOLUTION_WORK = 20_000_000
_EXHAUSTIVE_SIZE = 100_000


def method_for(axes: tuple[Axis, ...], outcomes: int) -> Literal["exhaustive", "evolution"]:
    combinations = size(axes)
    small = combinations <= _EXHAUSTIVE_SIZE and combinations * outcomes <= _EXHAUSTIVE_WORK
    # A space that evolution would visit as often as it has members is better searched in full.
    return "exhaustive" if small or combinations <= MU + LAMBDA else "evolution"


def generations_within(wanted: int, outcomes: int) -> int:
    """How many generations are run: those wanted, as far as the work stays within bounds."""
    return max(1, min(wanted, _EVOLUTION_WORK // (LAMBDA * outcomes)))


def exhaustive(axes: tuple[Axis, ...]) -> Generator[list[Genome], list[float], Scores]:
    """Asks for the scores of every combination of classes, in slices; returns them all."""
    scores: Scores = {}
    genomes = product(*(one.members for one in axes))
    while batch := list(islice(genomes, _SLICE)):
        scores.update(zip(batch, (yield batch), strict=True))
    return scores


def evolution(axes: tuple[Axis, ...], seed: int, generations: int) -> Generator[list[Genome], list[float], Scores]:
    """Asks for the scores of one generation after the other; returns all that were scored.

    Parents and children compete for the next generation by agreement, then by the smallest change from the baseline.
    """
    chance = random.Random(seed)  # noqa: S311 - a search must be repeatable, not unpredictable
    baseline = tuple(one.baseline for one in axes)
    population = list(dict.fromkeys([baseline, *(_random(axes, chance) for _ in range(MU + LAMBDA - 1))]))
    scores: Scores = {}
    scores.update(zip(population, (yield population), strict=True))
    for _ in range(generations):
        parents = sorted(population, key=lambda g: _rank(axes, g, scores[g]))[:MU]
        children = list(dict.fromkeys(_child(axes, parents, chance) for _ in range(LAMBDA)))
        if fresh := [child for child in children if child not in scores]:
            scores.update(zip(fresh, (yield fresh), strict=True))
        population = list(dict.fromkeys([*parents, *children]))
    return scores


def ranked(axes: tuple[Axis, ...], scores: Scores, at_least: float, most: int) -> list[tuple[Genome, float]]:
    """The best `most` genomes that agree with at least that share of the labels, in the order in which to prove them."""
    good = sorted((g for g, s in scores.items() if s >= at_least), key=lambda g: _rank(axes, g, scores[g]))
    # Every variant of a genome agrees as it does, so none beyond the first `most` can rank among the first `most`.
    spread = {(variant, scores[genome]) for genome in good[:most] for variant in variants(axes, genome)}
    return sorted(spread, key=lambda pair: _rank(axes, *pair))[:most]


def _rank(axes: tuple[Axis, ...], genome: Genome, agreement: float) -> tuple[float, float, Genome]:
    return -agreement, change(axes, genome), genome


def _random(axes: tuple[Axis, ...], chance: random.Random) -> Genome:
    return tuple(chance.choice(one.members) for one in axes)


def _child(axes: tuple[Axis, ...], parents: list[Genome], chance: random.Random) -> Genome:
    """Each threshold from either of two parents, then at least one of them moved: mostly a little, sometimes anywhere."""
    mother, father = chance.choice(parents), chance.choice(parents)
    genes = [chance.choice(pair) for pair in zip(mother, father, strict=True)]
    chosen = chance.randrange(len(axes))
    for index, one in enumerate(axes):
        if index != chosen and chance.random() >= 1 / len(axes):
            continue
        if chance.random() < 0.25:
            genes[index] = chance.choice(one.members)
        else:
            step = 1 + int(chance.expovariate(1 / max(1.0, len(one.members) / 16)))
            at = bisect_left(one.members, genes[index]) + chance.choice((-step, step))
            genes[index] = one.members[min(max(at, 0), len(one.members) - 1)]
    return tuple(genes)

"""The search against brute force, and its promise to repeat itself."""

from collections.abc import Callable, Generator

from hypothesis import given, settings
from hypothesis import strategies as st

from acgs1.services.evolutionary_computation.domain.scoring import Scorer
from acgs1.services.evolutionary_computation.domain.search import Scores, evolution, exhaustive, ranked
from acgs1.services.evolutionary_computation.domain.space import Genome, axis, change

Rule = Callable[[Genome, tuple[int, ...]], bool]
RULES: list[Rule] = [
    lambda g, v: v[0] <= g[0] and v[1] <= g[1],
    lambda g, v: v[0] > g[0] or v[1] == g[1],
    lambda g, v: (v[0] >= g[0]) != (v[1] < g[1]),
]


def drive(search: Generator[list[Genome], list[float], Scores], score: Callable[[Genome], float]) -> Scores:
    try:
        asked = next(search)
        while True:
            asked = search.send([score(g) for g in asked])
    except StopIteration as end:
        return end.value


small = st.integers(min_value=-3, max_value=12)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(small, small, st.booleans()), min_size=1, max_size=12),
    baseline=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    rule=st.sampled_from(RULES),
)
def test_the_full_search_finds_what_trying_every_threshold_finds(
    rows: list[tuple[int, int, bool]], baseline: Genome, rule: Rule
) -> None:
    values = [(a, b) for a, b, _ in rows]
    should = [s for *_, s in rows]
    axes = tuple(axis(baseline[i], 0, 9, (v[i] for v in values)) for i in range(2))
    scorer = Scorer(axes, values, should, lambda g: lambda i: rule(g, values[i]))

    def plainly(genome: Genome) -> float:
        return sum(rule(genome, v) is s for v, s in zip(values, should, strict=True)) / len(rows)

    everything = {(a, b): plainly((a, b)) for a in range(10) for b in range(10)}
    scores = drive(exhaustive(axes), scorer.score)
    assert all(scores[g] == everything[g] for g in scores)
    (best, agreement), *_ = ranked(axes, scores, 0.0, 5)
    assert agreement == max(everything.values())
    # Nothing that agrees as well is a smaller change.
    assert change(axes, best) == min(change(axes, g) for g, s in everything.items() if s == agreement)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), target=st.tuples(*[st.integers(0, 400)] * 3))
def test_evolution_repeats_itself_and_never_ends_below_where_it_began(seed: int, target: Genome) -> None:
    values = [(v, (v * 7) % 401, (v * 31) % 401) for v in range(0, 401, 4)]
    baseline = (200, 200, 200)
    axes = tuple(axis(baseline[i], 0, 400, (v[i] for v in values)) for i in range(3))

    def allows(genome: Genome, outcome: int) -> bool:
        return all(v > t for v, t in zip(values[outcome], genome, strict=True))

    should = [allows(target, i) for i in range(len(values))]

    def run() -> Scores:
        scorer = Scorer(axes, values, should, lambda g: lambda i: allows(g, i))
        return drive(evolution(axes, seed, 10), scorer.score)

    first, second = run(), run()
    assert list(first.items()) == list(second.items())
    assert ranked(axes, first, 0.0, 3) == ranked(axes, second, 0.0, 3)
    assert ranked(axes, first, 0.0, 1)[0][1] >= first[baseline]
    assert len(first) > 100


def test_evolution_comes_close_to_thresholds_that_explain_every_label() -> None:
    values = [(v, (v * 7) % 401, (v * 31) % 401) for v in range(401)]
    target = (90, 310, 150)
    axes = tuple(axis(0, 0, 400, (v[i] for v in values)) for i in range(3))

    def allows(genome: Genome, outcome: int) -> bool:
        return sum(v > t for v, t in zip(values[outcome], genome, strict=True)) >= 2

    scorer = Scorer(axes, values, [allows(target, i) for i in range(401)], lambda g: lambda i: allows(g, i))
    scores = drive(evolution(axes, 7, 60), scorer.score)
    assert scores[(0, 0, 0)] < 0.6
    assert ranked(axes, scores, 0.0, 1)[0][1] > 0.97

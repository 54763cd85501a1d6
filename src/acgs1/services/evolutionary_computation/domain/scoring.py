"""How far a genome agrees with the labels, asking the evaluator as seldom as possible."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from acgs1.contracts.policy_governance import EvaluationRequest
from acgs1.services.evolutionary_computation.domain.space import Axis, Genome

_REMEMBERED = 2_000_000


class Decides(Protocol):
    """The evaluator with one genome's policies."""

    def __call__(self, outcome: int) -> bool:
        """Whether the request of that outcome is allowed."""
        ...


class Scorer:
    """Scores genomes on the labelled outcomes.

    An outcome's decision depends on a genome only through the order of its own values and the thresholds (see `space`), so each outcome is
    put to the evaluator once per such order, and the first two million answers are remembered.
    """

    def __init__(
        self,
        axes: tuple[Axis, ...],
        values: Sequence[tuple[int | None, ...]],
        should_allow: Sequence[bool],
        decider: Callable[[Genome], Decides],
    ) -> None:
        """`values[i]` are outcome i's values of the tuned attributes; None where it has none."""
        self._axes = axes
        self._should = should_allow
        self._decider = decider
        self._sides = [
            tuple(None if v is None else axis.side(v) for axis, v in zip(axes, row, strict=True)) for row in values
        ]
        self._agrees: list[dict[int, bool]] = [{} for _ in values]
        self._remembered = 0
        self._scores: dict[tuple[int, ...], float] = {}

    def score(self, genome: Genome) -> float:
        """The share of outcomes that are decided as labelled."""
        classes = tuple(axis.side(value) for axis, value in zip(self._axes, genome, strict=True))
        known = self._scores.get(classes)
        if known is None:
            known = self._scores[classes] = self._count(genome, classes) / len(self._sides)
        return known

    def _count(self, genome: Genome, classes: tuple[int, ...]) -> int:
        decides: Decides | None = None
        agreeing = 0
        for index, sides in enumerate(self._sides):
            order = 0
            for side, own in zip(sides, classes, strict=True):
                order = 3 * order + (0 if side is None or side == own else 1 if side < own else 2)
            agrees = self._agrees[index].get(order)
            if agrees is None:
                decides = decides or self._decider(genome)
                agrees = decides(index) is self._should[index]
                if self._remembered < _REMEMBERED:
                    self._agrees[index][order] = agrees
                    self._remembered += 1
            agreeing += agrees
        return agreeing


def value_of(request: EvaluationRequest, attribute: str) -> int | None:
    """The whole number that a request carries at an attribute's path; None where there is none."""
    root, *names = attribute.split(".")
    value: Any = {
        "principal": request.subject.properties,
        "resource": request.resource.properties,
        "context": request.context,
    }[root]
    for name in names:
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]  # pyright: ignore[reportUnknownVariableType]
    return value if isinstance(value, int) and not isinstance(value, bool) else None

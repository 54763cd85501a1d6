"""The thresholds worth trying.

A decision depends on a threshold only through whether a request's value is below, at or above it. So thresholds between two
neighbouring values of the labelled outcomes decide every outcome alike; they form a class, and one member stands for it: the nearest to
the baseline. That is exact, and makes the space small enough to be searched in full where there are few thresholds.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Genome = tuple[int, ...]
"""One value per threshold, in the order of the tunables."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The classes of one threshold, in ascending order: `members[i]` is the representative of class i, `ends[i]` its least and greatest."""

    baseline: int
    span: int
    breaks: tuple[int, ...]
    members: tuple[int, ...]
    ends: tuple[tuple[int, int], ...]

    def side(self, threshold: int) -> int:
        """The class of `threshold`, as a number that orders like it: odd for a value of the outcomes, even for what lies between two."""
        at = bisect_left(self.breaks, threshold)
        return 2 * at + (at < len(self.breaks) and self.breaks[at] == threshold)

    def change(self, threshold: int) -> float:
        """How far from the baseline, as a share of the range."""
        return abs(threshold - self.baseline) / self.span


def axis(baseline: int, minimum: int, maximum: int, values: Iterable[int]) -> Axis:
    """The classes of a threshold in minimum..maximum (inclusive), given the attribute's values in the outcomes."""
    breaks = tuple(sorted(set(values)))
    ends = list(_classes(breaks, minimum, maximum))
    members = tuple(min(max(baseline, low), high) for low, high in ends)
    return Axis(baseline, max(1, maximum - minimum), breaks, members, tuple(ends))


def _classes(breaks: tuple[int, ...], minimum: int, maximum: int) -> Iterator[tuple[int, int]]:
    low = minimum
    for value in breaks:
        if not minimum <= value <= maximum:
            continue
        if low < value:
            yield low, value - 1
        yield value, value
        low = value + 1
    if low <= maximum:
        yield low, maximum


def size(axes: Iterable[Axis]) -> int:
    """How many combinations of classes there are."""
    product = 1
    for one in axes:
        product *= len(one.members)
    return product


def change(axes: tuple[Axis, ...], genome: Genome) -> float:
    """How much of a change from the baseline: the sum over the thresholds."""
    return sum(one.change(value) for one, value in zip(axes, genome, strict=True))


def variants(axes: tuple[Axis, ...], genome: Genome) -> set[Genome]:
    """`genome` and its equals in the eyes of the outcomes, one threshold at a time at either end of its class.

    A proof can tell them apart though the outcomes cannot.
    """
    found = {genome}
    for index, (one, value) in enumerate(zip(axes, genome, strict=True)):
        low, high = next(e for e in one.ends if e[0] <= value <= e[1])
        found |= {(*genome[:index], end, *genome[index + 1 :]) for end in (low, high)}
    return found

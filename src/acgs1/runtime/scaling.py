"""How many worker processes a service has: bounds from the command line, and the rule that chooses between them.

The rule is that of the Kubernetes HorizontalPodAutoscaler on average processor utilisation (its algorithm and its stabilisation windows),
so that `acgs1 up --workers auto` and `deploy/kubernetes` decide alike on the same measurement.
"""

import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from acgs1.contracts.topology import PART_BY_NAME

MANY: Final = frozenset({"governance_synthesis", "policy_governance"})
"""Services that may have several workers on one data directory: no worker keeps in memory what another has to know at once."""

WHY_ONE: Final[Mapping[str, str]] = {
    "ledger": "one process owns the chain",
    "auth": "signing keys and what was just revoked are kept in its process",
    "constitutional_ai": "it carries adoptions through in its process",
    "integrity": "the log has one writer",
    "formal_verification": "it queues verifications in its process; `ACGS_PROVER_WORKERS` gives it more provers",
    "evolutionary_computation": "it carries out one run at a time",
    "console": "the monitor runs in its process",
}
"""The others, and why they have one."""


class BadWorkers(ValueError):
    """`--workers` asks for what cannot be; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The fewest and the most workers of one service."""

    least: int = 1
    most: int = 1


@dataclass(frozen=True, slots=True)
class Rule:
    """When to add and remove workers. `target` is processor time per worker and second; windows in seconds."""

    target: float = 0.7
    tolerance: float = 0.1
    up_window: float = 15.0
    down_window: float = 120.0
    sample_seconds: float = 2.0
    settle_seconds: float = 5.0
    """A worker's first seconds go into starting; nothing is decided while there is one so young."""


def parse(words: Sequence[str], cores: int) -> dict[str, Bounds]:
    """The bounds of each service that may have more than one worker.

    Each of `words` is `auto` (1 to `cores` workers for every service that may have several), `SERVICE=N` or `SERVICE=N-M`. Raises
    BadWorkers.
    """
    bounds: dict[str, Bounds] = {}
    for word in words:
        if word == "auto":
            bounds = {name: Bounds(1, max(cores, 1)) for name in sorted(MANY)} | bounds
            continue
        name, equals, count = word.partition("=")
        if not equals or name not in PART_BY_NAME:
            raise BadWorkers(f"`{word}` is not `auto` or `SERVICE=N`; services with several workers are {_names()}")
        least, dash, most = count.partition("-")
        if not least.isdecimal() or (dash and not most.isdecimal()):
            raise BadWorkers(f"`{word}`: after `=` comes a number, as in `{name}=2`, or bounds, as in `{name}=1-4`")
        asked = Bounds(int(least), int(most or least))
        if not 1 <= asked.least <= asked.most <= 64:
            raise BadWorkers(f"`{word}`: from 1 to 64 workers, the smaller number first")
        if asked.most > 1 and name not in MANY:
            raise BadWorkers(f"`{name}` has one worker: {WHY_ONE[name]}; services with several are {_names()}")
        bounds[name] = asked
    return bounds


def _names() -> str:
    return ", ".join(sorted(MANY))


class Scaler:
    """Turns measurements of one service into a number of workers.

    HorizontalPodAutoscaler: wanted = ceil(current x utilisation / target), left alone within the tolerance. A rise follows the lowest
    number wanted within `up_window`, a fall the highest wanted within `down_window`: hysteresis in time, so that a burst or a pause shorter
    than the window changes nothing.
    """

    def __init__(self, bounds: Bounds, rule: Rule) -> None:
        self._bounds = bounds
        self._rule = rule
        self._wanted: deque[tuple[float, int]] = deque()

    def decide(self, now: float, current: int, utilisation: float) -> int:
        """How many workers there should be, after `current` of them used `utilisation` cores each on average. `now` is monotonic."""
        rule, ratio = self._rule, utilisation / self._rule.target
        wanted = current if abs(ratio - 1) <= rule.tolerance else math.ceil(current * ratio - 1e-9)
        wanted = self._within(wanted)
        if not self._wanted:
            # What was before is not known: take it that the present number was right.
            self._wanted.append((now, self._within(current)))
        self._wanted.append((now, wanted))
        while self._wanted[0][0] < now - max(rule.up_window, rule.down_window):
            self._wanted.popleft()
        lowest = min(count for at, count in self._wanted if at >= now - rule.up_window)
        highest = max(count for at, count in self._wanted if at >= now - rule.down_window)
        return self._within(min(max(current, lowest), highest))

    def _within(self, count: int) -> int:
        return max(self._bounds.least, min(count, self._bounds.most))


def processor_seconds(pid: int) -> float | None:
    """Processor time that `pid` has used so far (proc(5)), or None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

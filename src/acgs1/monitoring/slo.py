"""Service level objectives, error budgets and multi-window multi-burn-rate alerts. Pure.

Source: The Site Reliability Workbook (Beyer et al., 2018), chapter 5, table 5-8. The burn rates there are for a 30-day
window: 14.4 spends 2 % of the budget in an hour, 6 spends 5 % in six hours, 1 spends 10 % in three days.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"
    EMERGENCY = "emergency"


RANK: Final = {severity: rank for rank, severity in enumerate(Severity)}
"""The higher, the worse."""


class Indicator(StrEnum):
    """What is counted, and which of it is good."""

    UPTIME = "uptime"
    """Health checks; good: the part served."""
    ERRORS = "errors"
    """Requests; good: answered with less than 500."""
    LATENCY = "latency"
    """Requests; good: answered within 50 ms."""
    CACHE = "cache"
    """Hot reads; good: answered without waiting for a load."""
    COMPLIANCE = "compliance"
    """Runs of governance workflows; good: succeeded, scored 0.99 or better where scored."""
    TIMELINESS = "timeliness"
    """Runs of governance workflows; good: done within the workflow's target."""


@dataclass(frozen=True, slots=True)
class Objective:
    """At least `target` (a fraction) of the events that `indicator` counts for `service` are good, over 30 days.

    `worst` is as loud as its alerts get. Fewer than `fewest_bad` bad events in a long window prove nothing: after a fresh
    start one failure may be a fifth of all there is.
    """

    name: str
    service: str
    target: float
    runbook: str
    indicator: Indicator = Indicator.UPTIME
    worst: Severity = Severity.CRITICAL
    fewest_bad: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise ValueError(f"objective `{self.name}`: the target is a fraction between 0 and 1, not `{self.target}`")


@dataclass(frozen=True, slots=True)
class BurnRule:
    """Fires while the budget burns at `rate` or faster over both windows: the long one shows that it matters, the short
    one that it still happens."""

    rate: float
    long: timedelta
    short: timedelta
    severity: Severity


WORKBOOK_RULES: Final = (
    BurnRule(14.4, timedelta(hours=1), timedelta(minutes=5), Severity.CRITICAL),
    BurnRule(6.0, timedelta(hours=6), timedelta(minutes=30), Severity.CRITICAL),
    BurnRule(1.0, timedelta(days=3), timedelta(hours=6), Severity.WARNING),
)

BUDGET_WINDOW: Final = timedelta(days=30)

WINDOWS: Final = tuple(sorted({*(r.long for r in WORKBOOK_RULES), *(r.short for r in WORKBOOK_RULES), BUDGET_WINDOW}))
"""Every window that judging looks at, shortest first."""


def rules_for(target: float) -> tuple[BurnRule, ...]:
    """The rules that can fire for an objective: a budget of 20 % cannot burn 14.4 times too fast."""
    return tuple(rule for rule in WORKBOOK_RULES if rule.rate * (1 - target) < 1)


def severity_of(rule: BurnRule, worst: Severity) -> Severity:
    """How loud `rule` is for an objective whose alerts get no louder than `worst`."""
    return min(rule.severity, worst, key=RANK.__getitem__)


@dataclass(frozen=True, slots=True)
class Tally:
    """Events of a window: how many there were, and how many of them were good."""

    good: int
    total: int

    @property
    def bad_fraction(self) -> float:
        """0.0 for an empty window: nothing happened, so nothing was bad."""
        return (self.total - self.good) / self.total if self.total else 0.0


NOTHING: Final = Tally(0, 0)

Tallies = Mapping[timedelta, Tally]
"""The tally of each of WINDOWS; one that is missing is empty."""


@dataclass(frozen=True, slots=True)
class Burn:
    """A rule that fires, with the numbers that made it."""

    rule: BurnRule
    long_rate: float
    short_rate: float
    long_tally: Tally


@dataclass(frozen=True, slots=True)
class Budget:
    """`remaining` is the unspent fraction of the error budget (negative when overspent); 1.0 when nothing was counted."""

    objective: Objective
    achieved: float | None
    total: int
    bad: int
    remaining: float


def budget(objective: Objective, tallies: Tallies) -> Budget:
    """The error budget over the last 30 days, or over what there is of them."""
    tally = tallies.get(BUDGET_WINDOW, NOTHING)
    spent = tally.bad_fraction / (1 - objective.target)
    achieved = tally.good / tally.total if tally.total else None
    return Budget(objective, achieved, tally.total, tally.total - tally.good, 1.0 - spent)


def burning(objective: Objective, tallies: Tallies) -> Burn | None:
    """The first rule that fires, or None."""
    for rule in rules_for(objective.target):
        long = tallies.get(rule.long, NOTHING)
        long_rate = long.bad_fraction / (1 - objective.target)
        if long_rate < rule.rate or long.total - long.good < objective.fewest_bad:
            continue
        short_rate = tallies.get(rule.short, NOTHING).bad_fraction / (1 - objective.target)
        if short_rate >= rule.rate:
            return Burn(rule, long_rate, short_rate, long)
    return None

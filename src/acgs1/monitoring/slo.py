"""Service level objectives, error budgets and multi-window multi-burn-rate alerts. Pure.

Source: The Site Reliability Workbook (Beyer et al., 2018), chapter 5, table 5-8. The burn rates there are for a 30-day
window: 14.4 spends 2 % of the budget in an hour, 6 spends 5 % in six hours, 1 spends 10 % in three days.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, Protocol


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"
    EMERGENCY = "emergency"


@dataclass(frozen=True, slots=True)
class Objective:
    """At least `target` (a fraction) of the events of `service` are good, over 30 days."""

    name: str
    service: str
    target: float
    runbook: str

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

FEWEST_BAD: Final = 3
"""Fewer bad events in the long window prove nothing: after a fresh start one failure may be a fifth of all there is."""

BUDGET_WINDOW: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Tally:
    """Events of a window: how many there were, and how many of them were good."""

    good: int
    total: int

    @property
    def bad_fraction(self) -> float:
        """0.0 for an empty window: nothing happened, so nothing was bad."""
        return (self.total - self.good) / self.total if self.total else 0.0


class Tallies(Protocol):
    """Where the counts come from."""

    async def tally(self, service: str, window: timedelta) -> Tally: ...


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


async def budget(objective: Objective, source: Tallies) -> Budget:
    """The error budget over the last 30 days, or over what there is of them."""
    tally = await source.tally(objective.service, BUDGET_WINDOW)
    spent = tally.bad_fraction / (1 - objective.target)
    achieved = tally.good / tally.total if tally.total else None
    return Budget(objective, achieved, tally.total, tally.total - tally.good, 1.0 - spent)


async def burning(objective: Objective, source: Tallies, rules: tuple[BurnRule, ...] = WORKBOOK_RULES) -> Burn | None:
    """The most severe rule that fires, or None."""
    for rule in rules:
        long = await source.tally(objective.service, rule.long)
        long_rate = long.bad_fraction / (1 - objective.target)
        if long_rate < rule.rate or long.total - long.good < FEWEST_BAD:
            continue
        short = await source.tally(objective.service, rule.short)
        short_rate = short.bad_fraction / (1 - objective.target)
        if short_rate >= rule.rate:
            return Burn(rule, long_rate, short_rate, long)
    return None

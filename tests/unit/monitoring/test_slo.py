from datetime import timedelta

import pytest

from acgs1.monitoring.slo import Objective, Severity, Tally, budget, burning

OBJECTIVE = Objective("auth-uptime", "auth", 0.995, "runbook")


class Windows:
    """Bad fractions by window, of 1000 events each."""

    def __init__(self, **bad: float) -> None:
        lengths = {"m5": 300, "m30": 1800, "h1": 3600, "h6": 21600, "d3": 259200, "d30": 2592000}
        self.bad = {timedelta(seconds=lengths[name]): fraction for name, fraction in bad.items()}

    async def tally(self, service: str, window: timedelta) -> Tally:
        return Tally(round(1000 * (1 - self.bad.get(window, 0.0))), 1000)


@pytest.mark.parametrize(
    ("bad", "severity"),
    [
        ({}, None),
        ({"h1": 0.08, "m5": 0.08}, Severity.CRITICAL),  # 16 times the budget of 0.5 %
        ({"h1": 0.08, "m5": 0.0}, None),  # it is over
        ({"m5": 1.0}, None),  # five minutes alone are noise
        ({"h6": 0.04, "m30": 0.04}, Severity.CRITICAL),
        ({"d3": 0.006, "h6": 0.006}, Severity.WARNING),
        ({"d3": 0.004, "h6": 0.004}, None),  # within budget
    ],
)
async def test_a_rule_fires_only_when_both_windows_burn(bad, severity):
    burn = await burning(OBJECTIVE, Windows(**bad))
    assert (burn.rule.severity if burn else None) == severity


async def test_one_failure_soon_after_the_start_is_no_burning_budget():
    class Young:
        def __init__(self, bad: int) -> None:
            self.bad = bad

        async def tally(self, service: str, window: timedelta) -> Tally:
            return Tally(7 - self.bad, 7)

    assert await burning(OBJECTIVE, Young(2)) is None
    assert await burning(OBJECTIVE, Young(3)) is not None


async def test_the_budget_says_what_is_left():
    spent_half = await budget(OBJECTIVE, Windows(d30=0.0025))
    assert spent_half.remaining == pytest.approx(0.5, abs=0.11)  # 1000 events: steps of 0.2
    assert (await budget(OBJECTIVE, Windows(d30=0.01))).remaining == pytest.approx(-1.0)


async def test_nothing_counted_is_no_achievement():
    class Nothing:
        async def tally(self, service: str, window: timedelta) -> Tally:
            return Tally(0, 0)

    assert (await budget(OBJECTIVE, Nothing())).achieved is None
    assert await burning(OBJECTIVE, Nothing()) is None


def test_a_target_that_is_no_fraction_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        Objective("x", "y", 99.5, "r")

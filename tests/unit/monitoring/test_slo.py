from datetime import timedelta

import pytest

from acgs1.monitoring.objectives import objectives
from acgs1.monitoring.slo import (
    WINDOWS,
    WORKBOOK_RULES,
    Objective,
    Severity,
    Tally,
    budget,
    burning,
    rules_for,
    severity_of,
)

OBJECTIVE = Objective("auth-uptime", "auth", 0.995, "runbook")


def windows(**bad: float) -> dict[timedelta, Tally]:
    """Tallies of 1000 events each, with these bad fractions by window."""
    lengths = {"m5": 300, "m30": 1800, "h1": 3600, "h6": 21600, "d3": 259200, "d30": 2592000}
    return {timedelta(seconds=s): Tally(round(1000 * (1 - bad.get(name, 0.0))), 1000) for name, s in lengths.items()}


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
def test_a_rule_fires_only_when_both_windows_burn(bad, severity):
    burn = burning(OBJECTIVE, windows(**bad))
    assert (burn.rule.severity if burn else None) == severity


def test_one_failure_soon_after_the_start_is_no_burning_budget():
    def young(bad: int) -> dict[timedelta, Tally]:
        return dict.fromkeys(WINDOWS, Tally(7 - bad, 7))

    assert burning(OBJECTIVE, young(2)) is None
    assert burning(OBJECTIVE, young(3)) is not None


def test_the_budget_says_what_is_left():
    assert budget(OBJECTIVE, windows(d30=0.002)).remaining == pytest.approx(0.6)
    assert budget(OBJECTIVE, windows(d30=0.01)).remaining == pytest.approx(-1.0)


def test_nothing_counted_is_no_achievement():
    assert budget(OBJECTIVE, {}).achieved is None
    assert burning(OBJECTIVE, {}) is None


@pytest.mark.parametrize(("target", "rates"), [(0.995, [14.4, 6, 1]), (0.95, [14.4, 6, 1]), (0.9, [6, 1]), (0.8, [1])])
def test_a_rule_that_could_never_fire_is_left_out(target, rates):
    """A budget of 20 % burns at most five times too fast: when everything fails."""
    assert [rule.rate for rule in rules_for(target)] == rates


def test_an_alert_gets_no_louder_than_its_objective_allows():
    assert severity_of(WORKBOOK_RULES[0], Severity.WARNING) is Severity.WARNING
    assert severity_of(WORKBOOK_RULES[2], Severity.CRITICAL) is Severity.WARNING


def test_every_service_and_the_system_promise_all_that_is_promised():
    made = {o.name: o for o in objectives(["auth", "ledger"])}
    assert len(made) == 3 + 8 * 6
    assert {made[f"{s}-{p}"].target for s in ("auth", "system") for p in ("uptime", "errors")} == {0.995}
    assert [made[f"system-{p}"].target for p in ("latency-p95", "latency-p99", "cache-hits", "compliance")] == [
        0.95, 0.99, 0.8, 0.99,
    ]  # fmt: skip


def test_a_target_that_is_no_fraction_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        Objective("x", "y", 99.5, "r")

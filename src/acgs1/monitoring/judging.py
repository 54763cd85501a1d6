"""What is an alert: each finding fires it, and its end resolves it."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from acgs1.core.clock import format_instant
from acgs1.kit.breaker import State as BreakerState
from acgs1.monitoring.alerts import AlertBook
from acgs1.monitoring.forecast import Forecast
from acgs1.monitoring.health import Check, Status, TargetHealth
from acgs1.monitoring.objectives import LATENCY_TARGET_SECONDS, RUNBOOKS
from acgs1.monitoring.processes import FORGOTTEN_AFTER, Breaker
from acgs1.monitoring.slo import Objective, Severity, Tallies, burning, severity_of
from acgs1.monitoring.workflows import WorkflowReport


def judge_check(alerts: AlertBook, health: TargetHealth, check: Check, *, in_maintenance: bool) -> None:
    """A part that has not been seen yet is not accused; one in maintenance neither."""
    if in_maintenance or health.status.serves:
        alerts.resolve("part-not-serving", check.target)
    elif health.status is not Status.UNKNOWN:
        alerts.fire(
            "part-not-serving",
            check.target,
            Severity.CRITICAL,
            f"{check.target} is {health.status}: {check.detail}",
            runbook=f"{RUNBOOKS}#a-part-does-not-serve",
            evidence={
                "failed_checks": health.failures,
                "last_check": format_instant(check.at),
                "detail": check.detail,
            },
        )


def judge_database(alerts: AlertBook, *, away: bool) -> None:
    """The monitor's own database: without it the budgets are not judged, and nobody would notice."""
    if not away:
        alerts.resolve("monitor-without-database", "monitor")
        return
    alerts.fire(
        "monitor-without-database",
        "monitor",
        Severity.CRITICAL,
        "the monitor does not reach its database: error budgets are not judged",
        runbook=f"{RUNBOOKS}#the-monitor-has-no-database",
        evidence={},
    )


def judge_objective(alerts: AlertBook, objective: Objective, tallies: Tallies) -> None:
    """`tallies`: what counts for the objective, by window."""
    name = f"{objective.name.removeprefix(objective.service + '-')}-budget-burns"
    burn = burning(objective, tallies)
    if burn is None:
        alerts.resolve(name, objective.service)
        return
    alerts.fire(
        name,
        objective.service,
        severity_of(burn.rule, objective.worst),
        f"{objective.name} ({objective.target:.1%}) burns its error budget at {burn.long_rate:.1f} times the"
        f" sustainable rate over {_hours(burn.rule.long)} and {burn.short_rate:.1f} over {_hours(burn.rule.short)}",
        runbook=objective.runbook,
        evidence={
            "slo": objective.name,
            "target": objective.target,
            "long_rate": burn.long_rate,
            "short_rate": burn.short_rate,
            "events": burn.long_tally.total,
            "bad": burn.long_tally.total - burn.long_tally.good,
        },
    )


def judge_workflows(alerts: AlertBook, reports: Iterable[WorkflowReport]) -> None:
    for report in reports:
        if report.stuck:
            alerts.fire(
                "workflow-stuck",
                report.workflow_type,
                Severity.WARNING,
                f"{len(report.stuck)} runs of {report.workflow_type} go on for longer than {report.target_seconds:g} s",
                runbook=f"{RUNBOOKS}#a-workflow-is-stuck",
                evidence={"workflow_ids": list(report.stuck[:20])},
            )
        else:
            alerts.resolve("workflow-stuck", report.workflow_type)


def judge_breakers(alerts: AlertBook, breakers: Iterable[Breaker], now: datetime) -> None:
    shut: set[str] = set()
    known: set[str] = set()
    for breaker in breakers:
        known.add(breaker.seen.name)
        if breaker.seen.state in {BreakerState.OPEN, BreakerState.FORCED_OPEN}:
            shut.add(breaker.seen.name)
            alerts.fire(
                "breaker-open",
                breaker.seen.name,
                Severity.WARNING,
                f"the circuit breaker {breaker.seen.name} is {breaker.seen.state}: {breaker.seen.reason}",
                runbook=f"{RUNBOOKS}#a-circuit-breaker-is-open",
                evidence={
                    "instance": breaker.instance,
                    "rejected": breaker.seen.rejected,
                    "since": format_instant(breaker.seen.since),
                },
            )
    since = now - FORGOTTEN_AFTER
    for alert in alerts.firing:
        # One that nobody speaks of yet may be a process's that reports next: after a restart of the monitor, for one.
        gone = alert.target in known or alert.updated_at < since
        if alert.name == "breaker-open" and alert.target not in shut and gone:
            alerts.resolve(alert.name, alert.target)


def judge_forecasts(alerts: AlertBook, forecasts: Iterable[Forecast], now: datetime) -> None:
    """A service of which there is no forecast any more, or of which it reaches no further than `now`, is not at risk."""
    at_risk: set[str] = set()
    for forecast in forecasts:
        if forecast.metric != "p95":
            continue
        ahead = forecast.crosses(LATENCY_TARGET_SECONDS, now)
        if ahead is None:
            continue
        at_risk.add(forecast.service)
        alerts.fire(
            "slo-at-risk",
            forecast.service,
            Severity.WARNING,
            f"P95 of {forecast.service} is expected above {LATENCY_TARGET_SECONDS * 1000:g} ms in {ahead.total_seconds() / 60:.0f} minutes",
            runbook=f"{RUNBOOKS}#an-objective-is-at-risk",
            evidence={
                "slo": f"{forecast.service}-latency-p95",
                "minutes": ahead.total_seconds() / 60,
                "method": forecast.method,
                "highest": max(forecast.values),
                "back_test_error": min(forecast.error, forecast.naive_error),
                "made_at": format_instant(forecast.made_at),
            },
        )
    for alert in alerts.firing:
        if alert.name == "slo-at-risk" and alert.target not in at_risk:
            alerts.resolve(alert.name, alert.target)


def _hours(window: timedelta) -> str:
    minutes = int(window.total_seconds() // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h"

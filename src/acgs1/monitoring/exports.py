"""Prometheus rules and a Grafana dashboard from the definitions that the monitor itself judges by.

`python -m acgs1.monitoring.exports deploy` writes them; a test fails while they differ from what is there.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from acgs1.contracts.topology import PARTS, SERVICES
from acgs1.kit.reporting import ENFORCEMENT_ROUTE
from acgs1.kit.telemetry import OPERATIONS
from acgs1.monitoring.objectives import (
    CACHE,
    COMPLIANCE,
    ENFORCEMENT_TARGET_SECONDS,
    ERRORS,
    LATENCY_TARGET_SECONDS,
    P95,
    P99,
    RUNBOOKS,
    SYSTEM,
    TIMELINESS,
    UPTIME,
    Promise,
)
from acgs1.monitoring.slo import BurnRule, Severity, rules_for, severity_of

_WORK = "|".join(f"{route}.*" for route in OPERATIONS)
_SERVICE_NAMES = "|".join(part.name for part in SERVICES)

Share = Callable[[str, str], str]
"""The share of bad events over a window, by a label; by "" it is all services' together."""


def prometheus_rules() -> dict[str, Any]:
    """Alerting rules for every promise, of each service and of the system: the workbook's burn rates over the promise's share of
    bad events. And one for each other thing that the monitor alerts about, with one that notices the monitor's own end."""
    rules = [rule for promise in _BAD for burn in rules_for(promise.target) for rule in _rules(promise, burn)]
    return {"groups": [{"name": "acgs1", "interval": "30s", "rules": rules + [plain.rule() for plain in _PLAIN]}]}


def _rules(promise: Promise, burn: BurnRule) -> list[dict[str, Any]]:
    return [_rule(promise, burn, _BAD[promise].label), _rule(promise, burn, "")]


def _rule(promise: Promise, burn: BurnRule, by: str) -> dict[str, Any]:
    bad, words = _BAD[promise].share, _BAD[promise].words
    long, short = _window(burn.long), _window(burn.short)
    limit = f"{burn.rate:g} * {1 - promise.target:g}"
    # One rule for the whole has no series whose label could say so.
    whole = {} if by else {_BAD[promise].label: SYSTEM}
    name = f"{{{{ $labels.{by} }}}}" if by else SYSTEM
    return {
        "alert": _camel(promise),
        "expr": f"({bad(long, by)} > {limit}) and ({bad(short, by)} > {limit})",
        "labels": {
            **whole,
            "severity": str(severity_of(burn, promise.worst)),
            "slo": promise.name,
            "long_window": long,
            "short_window": short,
        },
        "annotations": {
            "summary": f"{name} {words} {burn.rate:g} times as fast as its error budget lasts",
            "runbook": promise.runbook,
        },
    }


def _camel(promise: Promise) -> str:
    return "".join(word.capitalize() for word in promise.name.split("-")) + "BudgetBurns"


def _sum(expression: str, by: str) -> str:
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def _counted(name: str, which: str, window: str, by: str) -> str:
    return _sum(f"rate({name}{{{which}}}[{window}])" if which else f"rate({name}[{window}])", by)


def _errors(window: str, by: str) -> str:
    failed = _counted("acgs_http_requests_total", f'status=~"5..",route!~"{_WORK}"', window, by)
    requests = _counted("acgs_http_requests_total", f'route!~"{_WORK}"', window, by)
    return _share(failed, requests)


def _slow(window: str, by: str) -> str:
    return _share_above(LATENCY_TARGET_SECONDS, f'route!~"{_WORK}"', window, by)


def _decided_late(window: str, by: str) -> str:
    return _share_above(ENFORCEMENT_TARGET_SECONDS, f'route="{ENFORCEMENT_ROUTE}"', window, by)


def _share_above(seconds: float, which: str, window: str, by: str) -> str:
    # Client libraries write the bound as 0.05; an OpenMetrics scrape may normalise it, but not to another number.
    fast = _counted("acgs_http_request_seconds_bucket", f'le="{seconds:g}",{which}', window, by)
    return f"1 - {fast} / {_counted('acgs_http_request_seconds_count', which, window, by)}"


def _misses(window: str, by: str) -> str:
    hits, missed, joined = (
        _counted(f"acgs_cache_{kind}_total", "", window, by) for kind in ("hits", "misses", "joined")
    )
    # A service without a hit has no series of hits, and so for each of them.
    waited = f"(({missed} or 0 * {joined}) + ({joined} or 0 * {missed}))"
    return f"({waited} or 0 * {hits}) / (({hits} or 0 * {waited}) + ({waited} or 0 * {hits}))"


def _down(window: str, by: str) -> str:
    which = "" if by else f'target=~"{_SERVICE_NAMES}"'
    failed = _counted("acgs_part_checks_failed_total", which, window, by)
    return _share(failed, _counted("acgs_part_checks_total", which, window, by))


def _noncompliant(window: str, by: str) -> str:
    failed = _counted("acgs_workflow_noncompliant_total", "", window, by)
    return _share(failed, _counted("acgs_workflow_runs_total", "", window, by))


def _late(window: str, by: str) -> str:
    late = _counted("acgs_workflow_late_total", "", window, by)
    return _share(late, _counted("acgs_workflow_runs_total", "", window, by))


def _share(bad: str, all_: str) -> str:
    # What nothing bad was counted of may have no series of it.
    return f"({bad} or 0 * {all_}) / {all_}"


@dataclass(frozen=True, slots=True)
class _Bad:
    share: Share
    words: str
    label: str = "service"


_BAD: dict[Promise, _Bad] = {
    UPTIME: _Bad(_down, "does not serve", "target"),
    ERRORS: _Bad(_errors, "answers with errors"),
    P95: _Bad(_slow, f"is slower than {LATENCY_TARGET_SECONDS:g} s"),
    P99: _Bad(_slow, f"is slower than {LATENCY_TARGET_SECONDS:g} s"),
    CACHE: _Bad(_misses, "misses its cache"),
    COMPLIANCE: _Bad(_noncompliant, "runs workflows that fail or do not comply"),
    TIMELINESS: _Bad(_late, "runs workflows late"),
}
"""The share of bad events of each promise, and what it is in words."""


@dataclass(frozen=True, slots=True)
class _Plain:
    """An alert on a condition rather than a budget. `series` makes it fire, `quiet` (the same series, other values) does not."""

    name: str
    expression: str
    severity: Severity
    summary: str
    anchor: str
    series: dict[str, str]
    quiet: str
    labels: dict[str, str]
    lasts: str = "0s"

    def rule(self) -> dict[str, Any]:
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.lasts,
            "labels": {"severity": str(self.severity)},
            "annotations": {"summary": self.summary, "runbook": f"{RUNBOOKS}#{self.anchor}"},
        }

    def test(self, *, fires: bool) -> dict[str, Any]:
        summary = self.summary
        for label, value in self.labels.items():
            summary = summary.replace(f"{{{{ $labels.{label} }}}}", value)
        expected = {
            "exp_labels": {"severity": str(self.severity), **self.labels},
            "exp_annotations": {"summary": summary, "runbook": f"{RUNBOOKS}#{self.anchor}"},
        }
        return {
            "name": f"{self.name}: {'fires' if fires else 'does not'}",
            "interval": "1m",
            "input_series": [
                {"series": name, "values": values if fires else self.quiet} for name, values in self.series.items()
            ],
            "alert_rule_test": [
                {"eval_time": "10m", "alertname": self.name, "exp_alerts": [expected] if fires else []}
            ],
        }


# An open breaker probes every few seconds: between two scrapes it may have been something else.
_OPEN = 'max by (breaker) (max_over_time(acgs_breaker_state{state=~"open|forced_open"}[1m]))'

_PLAIN = (
    _Plain(
        "PartNotScraped",
        'up{job="acgs1"} == 0',
        Severity.CRITICAL,
        "{{ $labels.part }} does not answer a scrape",
        "a-part-does-not-serve",
        {'up{job="acgs1",part="console",instance="127.0.0.1:3000"}': "0x20"},
        "1x20",
        {"part": "console", "job": "acgs1", "instance": "127.0.0.1:3000"},
        lasts="2m",
    ),
    _Plain(
        "BreakerOpen",
        f"{_OPEN} == 1",
        Severity.WARNING,
        "the circuit breaker {{ $labels.breaker }} is open",
        "a-circuit-breaker-is-open",
        {'acgs_breaker_state{breaker="auth->integrity",state="open",part="auth"}': "1x20"},
        "0x20",
        {"breaker": "auth->integrity"},
    ),
    _Plain(
        "WorkflowStuck",
        "max by (workflow) (acgs_workflows_stuck) > 0",
        Severity.WARNING,
        "runs of {{ $labels.workflow }} go on for longer than their target",
        "a-workflow-is-stuck",
        {'acgs_workflows_stuck{workflow="policy_creation",part="console"}': "2x20"},
        "0x20",
        {"workflow": "policy_creation"},
    ),
    _Plain(
        "SloAtRisk",
        "min by (service) (acgs_slo_at_risk_minutes) >= 0",
        Severity.WARNING,
        "P95 of {{ $labels.service }} is expected to pass its objective",
        "an-objective-is-at-risk",
        {'acgs_slo_at_risk_minutes{service="auth",part="console"}': "15x20"},
        " ".join(["NaN"] * 20),
        {"service": "auth"},
    ),
)


def prometheus_tests() -> dict[str, Any]:
    """Tests for promtool: of each rule, that it fires where its budget burns that fast, and does not in a service that keeps its
    promises. What has not happened has no series, as on a real `/metrics`."""
    tests = [_test(promise, worst) for promise in _BAD for worst in (True, False)]
    tests += [plain.test(fires=fires) for plain in _PLAIN for fires in (True, False)]
    return {"rule_files": ["../rules.yml"], "evaluation_interval": "5m", "tests": tests}


def _test(promise: Promise, broken: bool) -> dict[str, Any]:
    """Seven hours of steady traffic, all of it bad or all of it good: at their end every rule fires that can, or none."""
    service = SERVICES[0].name
    everything, nothing = "0+60x440", "0x440"
    http = f'service="{service}",method="GET",route="/api/v1/x"'
    runs = f'service="{service}",workflow="audit_transparency"'
    cache = f'service="{service}",operation="x"'
    fast = nothing if broken else everything
    series = {
        UPTIME: {
            f'acgs_part_checks_total{{target="{service}"}}': everything,
            f'acgs_part_checks_failed_total{{target="{service}"}}': everything if broken else None,
        },
        ERRORS: {
            f'acgs_http_requests_total{{{http},status="500"}}': everything if broken else None,
            f'acgs_http_requests_total{{{http},status="200"}}': None if broken else everything,
        },
        CACHE: {
            f'acgs_cache_hits_total{{{cache},level="local"}}': None if broken else everything,
            f"acgs_cache_misses_total{{{cache}}}": everything if broken else None,
        },
        COMPLIANCE: {
            f"acgs_workflow_runs_total{{{runs}}}": everything,
            f"acgs_workflow_noncompliant_total{{{runs}}}": everything if broken else None,
        },
        TIMELINESS: {
            f"acgs_workflow_runs_total{{{runs}}}": everything,
            f"acgs_workflow_late_total{{{runs}}}": everything if broken else None,
        },
    }.get(
        promise,
        {
            # A histogram has all its buckets from the first observation on.
            f'acgs_http_request_seconds_bucket{{{http},le="{LATENCY_TARGET_SECONDS:g}"}}': fast,
            f"acgs_http_request_seconds_count{{{http}}}": everything,
        },
    )
    expected = [rule for burn in rules_for(promise.target) for rule in _rules(promise, burn)] if broken else []
    label = _BAD[promise].label
    return {
        "name": f"{promise.name}: {'all bad' if broken else 'all good'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items() if values is not None],
        "alert_rule_test": [
            {
                "eval_time": "7h",
                "alertname": _camel(promise),
                "exp_alerts": [
                    {
                        "exp_labels": {label: service, **rule["labels"]},
                        "exp_annotations": {
                            "summary": rule["annotations"]["summary"].replace(f"{{{{ $labels.{label} }}}}", service),
                            "runbook": rule["annotations"]["runbook"],
                        },
                    }
                    for rule in expected
                ],
            }
        ],
    }


def grafana_dashboard() -> dict[str, Any]:
    """Traffic, errors, latency, cache, calls between parts; one data source, chosen in the dashboard."""
    panels = [
        ("Requests per second", "sum by (service) (rate(acgs_http_requests_total[5m]))", "reqps"),
        ("Share of checks that found a part not serving", _down("1h", "target"), "percentunit"),
        ("Share of 5xx", _errors("5m", "service"), "percentunit"),
        ("P95", _quantile(0.95), "s"),
        ("P99", _quantile(0.99), "s"),
        (f"Share slower than {LATENCY_TARGET_SECONDS:g} s", _slow("5m", "service"), "percentunit"),
        (f"Decisions later than {ENFORCEMENT_TARGET_SECONDS:g} s", _decided_late("5m", "service"), "percentunit"),
        ("Cache misses", _misses("30m", "service"), "percentunit"),
        ("Calls between parts that failed", _failed_calls(), "reqps"),
        ("Workflow runs that do not comply", _noncompliant("1h", "service"), "percentunit"),
        ("Workflow runs that are late", _late("1h", "service"), "percentunit"),
        ("Circuit breakers that are open", _OPEN, "short"),
        ("Calls through circuit breakers", _counted("acgs_breaker_calls_total", "", "5m", "breaker, outcome"), "reqps"),
        (
            "Calls that circuit breakers turned away",
            _counted("acgs_breaker_rejected_total", "", "5m", "breaker"),
            "reqps",
        ),
        ("Events not yet in the log", "acgs_outbox_pending", "short"),
    ]
    return {
        "uid": "acgs1-overview",
        "title": "ACGS-1",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": [
            {
                "id": number + 1,
                "type": "timeseries",
                "title": title,
                "datasource": {"type": "prometheus", "uid": "${source}"},
                "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
                "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
                "targets": [{"refId": "A", "expr": expression, "legendFormat": "__auto"}],
            }
            for number, (title, expression, unit) in enumerate(panels)
        ],
    }


def prometheus_scrape() -> dict[str, Any]:
    """A scrape job for every part on this machine; the token is one of an operator or a service."""
    return {
        "global": {"scrape_interval": "15s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {
                "job_name": "acgs1",
                "authorization": {"credentials_file": "/etc/prometheus/acgs-token"},
                # Not `service`: that label is the metrics' own.
                "static_configs": [
                    {"targets": [f"127.0.0.1:{part.port}"], "labels": {"part": part.name}} for part in PARTS
                ],
            }
        ],
    }


def files() -> dict[str, str]:
    """Path under `deploy/` and content of each export. YAML is written as JSON, of which it is a superset."""
    return {
        "prometheus/rules.yml": _text(prometheus_rules()),
        "prometheus/tests/rules.yml": _text(prometheus_tests()),
        "prometheus/prometheus.yml": _text(prometheus_scrape()),
        "grafana/acgs1.json": _text(grafana_dashboard()),
    }


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def _window(length: timedelta) -> str:
    minutes = int(length.total_seconds() // 60)
    return f"{minutes}m" if minutes < 60 else f"{minutes // 60}h"


def _quantile(fraction: float) -> str:
    return f"histogram_quantile({fraction:g}, sum by (service, le) (rate(acgs_http_request_seconds_bucket[5m])))"


def _failed_calls() -> str:
    return 'sum by (service, target, outcome) (rate(acgs_outbound_requests_total{outcome!="ok"}[5m]))'


if __name__ == "__main__":
    for name, content in files().items():
        path = Path(sys.argv[1]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

"""Prometheus rules and a Grafana dashboard from the definitions that the monitor itself judges by.

`python -m acgs1.monitoring.exports deploy` writes them; a test fails while they differ from what is there.
"""

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from acgs1.contracts.topology import SERVICES
from acgs1.kit.reporting import ENFORCEMENT_ROUTE
from acgs1.kit.telemetry import OPERATIONS
from acgs1.monitoring.objectives import (
    CACHE,
    ENFORCEMENT_TARGET_SECONDS,
    ERRORS,
    LATENCY_TARGET_SECONDS,
    P95,
    P99,
    TIMELINESS,
    Promise,
)
from acgs1.monitoring.slo import BurnRule, rules_for, severity_of

_WORK = "|".join(f"{route}.*" for route in OPERATIONS)


def prometheus_rules() -> dict[str, Any]:
    """Alerting rules for every promise of a service: the workbook's burn rates over the promise's share of bad events."""
    rules = [_rule(promise, burn) for promise in _BAD for burn in rules_for(promise.target)]
    return {"groups": [{"name": "acgs1", "interval": "30s", "rules": rules}]}


def _rule(promise: Promise, burn: BurnRule) -> dict[str, Any]:
    bad, words = _BAD[promise]
    long, short = _window(burn.long), _window(burn.short)
    limit = f"{burn.rate:g} * {1 - promise.target:g}"
    return {
        "alert": _camel(promise),
        "expr": f"({bad(long)} > {limit}) and ({bad(short)} > {limit})",
        "labels": {
            "severity": str(severity_of(burn, promise.worst)),
            "slo": promise.name,
            "long_window": long,
            "short_window": short,
        },
        "annotations": {
            "summary": f"{{{{ $labels.service }}}} {words} {burn.rate:g} times as fast as its error budget lasts",
            "runbook": promise.runbook,
        },
    }


def _camel(promise: Promise) -> str:
    return "".join(word.capitalize() for word in promise.name.split("-")) + "BudgetBurns"


def _errors(window: str) -> str:
    failed = f'sum by (service) (rate(acgs_http_requests_total{{status=~"5..",route!~"{_WORK}"}}[{window}]))'
    # A service without a failure has no series of failures.
    return f"({failed} or 0 * {_requests(window)}) / {_requests(window)}"


def _requests(window: str) -> str:
    return f'sum by (service) (rate(acgs_http_requests_total{{route!~"{_WORK}"}}[{window}]))'


def _slow(window: str) -> str:
    return _share_above(LATENCY_TARGET_SECONDS, f'route!~"{_WORK}"', window)


def _late(window: str) -> str:
    return _share_above(ENFORCEMENT_TARGET_SECONDS, f'route="{ENFORCEMENT_ROUTE}"', window)


def _share_above(seconds: float, which: str, window: str) -> str:
    # Client libraries write the bound as 0.05; an OpenMetrics scrape may normalise it, but not to another number.
    fast = f'sum by (service) (rate(acgs_http_request_seconds_bucket{{le="{seconds:g}",{which}}}[{window}]))'
    return f"1 - {fast} / sum by (service) (rate(acgs_http_request_seconds_count{{{which}}}[{window}]))"


def _misses(window: str) -> str:
    hits = f"sum by (service) (rate(acgs_cache_hits_total[{window}]))"
    loads = f"sum by (service) (rate(acgs_cache_loads_total[{window}]))"
    return f"{loads} / ({hits} + {loads})"


_BAD: dict[Promise, tuple[Callable[[str], str], str]] = {
    ERRORS: (_errors, "answers with errors"),
    P95: (_slow, f"is slower than {LATENCY_TARGET_SECONDS:g} s"),
    P99: (_slow, f"is slower than {LATENCY_TARGET_SECONDS:g} s"),
    CACHE: (_misses, "misses its cache"),
    # What is told run by run reaches the monitor alone; decisions, the bulk, are seen in the histogram.
    TIMELINESS: (_late, f"decides later than {ENFORCEMENT_TARGET_SECONDS:g} s"),
}
"""The share of bad events over a window, and what it is in words, of each promise."""


def prometheus_tests() -> dict[str, Any]:
    """Tests for promtool: of each rule, that it fires where its budget burns that fast, and does not in a service that keeps its
    promises."""
    return {
        "rule_files": ["../rules.yml"],
        "evaluation_interval": "1m",
        "tests": [_test(promise, worst) for promise in _BAD for worst in (True, False)],
    }


def _test(promise: Promise, broken: bool) -> dict[str, Any]:
    """Seven hours of steady traffic, all of it bad or all of it good: at their end every rule fires that can, or none."""
    service = SERVICES[0].name if promise is not TIMELINESS else "policy_governance"
    route = ENFORCEMENT_ROUTE if promise is TIMELINESS else "/api/v1/x"
    labels = f'service="{service}",method="GET",route="{route}"'
    bad, good = ("0+60x440", "0x440") if broken else ("0x440", "0+60x440")
    everything = "0+60x440"
    series = {
        ERRORS: {
            f'acgs_http_requests_total{{{labels},status="500"}}': bad,
            f'acgs_http_requests_total{{{labels},status="200"}}': good,
        },
        CACHE: {
            f'acgs_cache_hits_total{{service="{service}",operation="x",level="local"}}': good,
            f'acgs_cache_loads_total{{service="{service}",operation="x"}}': bad,
        },
    }.get(
        promise,
        {
            f'acgs_http_request_seconds_bucket{{{labels},le="{LATENCY_TARGET_SECONDS:g}"}}': good,
            f'acgs_http_request_seconds_bucket{{{labels},le="{ENFORCEMENT_TARGET_SECONDS:g}"}}': good,
            f"acgs_http_request_seconds_count{{{labels}}}": everything,
        },
    )
    expected = [_rule(promise, burn) for burn in rules_for(promise.target)] if broken else []
    return {
        "name": f"{promise.name}: {'all bad' if broken else 'all good'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {
                "eval_time": "7h",
                "alertname": _camel(promise),
                "exp_alerts": [
                    {
                        "exp_labels": {**rule["labels"], "service": service},
                        "exp_annotations": {
                            "summary": rule["annotations"]["summary"].replace("{{ $labels.service }}", service),
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
        ("Share of 5xx", _errors("5m"), "percentunit"),
        ("P95", _quantile(0.95), "s"),
        ("P99", _quantile(0.99), "s"),
        (f"Share slower than {LATENCY_TARGET_SECONDS:g} s", _slow("5m"), "percentunit"),
        (f"Decisions later than {ENFORCEMENT_TARGET_SECONDS:g} s", _late("5m"), "percentunit"),
        ("Cache misses", _misses("30m"), "percentunit"),
        ("Calls between parts that failed", _failed_calls(), "reqps"),
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
    """A scrape job for every service on this machine; the token is one of an operator or a service."""
    return {
        "global": {"scrape_interval": "15s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {
                "job_name": "acgs1",
                "authorization": {"credentials_file": "/etc/prometheus/acgs-token"},
                "static_configs": [{"targets": [f"127.0.0.1:{part.port}" for part in SERVICES]}],
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

"""Prometheus rules and a Grafana dashboard from the definitions that the monitor itself judges by.

`python -m acgs1.monitoring.exports deploy` writes them; a test fails while they differ from what is there.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from acgs1.contracts.topology import SERVICES
from acgs1.monitoring.slo import WORKBOOK_RULES

ERROR_RATE_TARGET = 0.005
"""At most this fraction of requests may be answered with 5xx."""
LATENCY_TARGET_SECONDS = 0.05
"""P99 of every service."""
CACHE_HIT_TARGET = 0.8


def prometheus_rules() -> dict[str, Any]:
    """Alerting rules over `acgs_http_requests`, `acgs_http_request_seconds` and `acgs_cache_*`."""
    rules: list[dict[str, Any]] = []
    for burn in WORKBOOK_RULES:
        long, short = _window(burn.long), _window(burn.short)
        limit = f"{burn.rate:g} * {ERROR_RATE_TARGET:g}"
        rules.append(
            {
                "alert": "ErrorBudgetBurns",
                "expr": f"({_errors(long)} > {limit}) and ({_errors(short)} > {limit})",
                "labels": {"severity": str(burn.severity), "long_window": long, "short_window": short},
                "annotations": {
                    "summary": f"{{{{ $labels.service }}}} burns its error budget {burn.rate:g} times too fast",
                    "runbook": "docs/how-to/runbooks.md#uptime-budget-burns",
                },
            }
        )
    rules.append(
        {
            "alert": "LatencyAboveTarget",
            "expr": f"{_quantile(0.99)} > {LATENCY_TARGET_SECONDS:g}",
            "for": "10m",
            "labels": {"severity": "warning"},
            "annotations": {"summary": f"P99 of {{{{ $labels.service }}}} is above {LATENCY_TARGET_SECONDS:g} s"},
        }
    )
    rules.append(
        {
            "alert": "CacheHitRateLow",
            "expr": f"{_hit_rate()} < {CACHE_HIT_TARGET:g}",
            "for": "30m",
            "labels": {"severity": "info"},
            "annotations": {
                "summary": f"The cache of {{{{ $labels.service }}}} answers fewer than {CACHE_HIT_TARGET:.0%}"
            },
        }
    )
    return {"groups": [{"name": "acgs1", "interval": "30s", "rules": rules}]}


def grafana_dashboard() -> dict[str, Any]:
    """Traffic, errors, latency, cache, calls between parts; one data source, chosen in the dashboard."""
    panels = [
        ("Requests per second", "sum by (service) (rate(acgs_http_requests_total[5m]))", "reqps"),
        ("Share of 5xx", _errors("5m"), "percentunit"),
        ("P95", _quantile(0.95), "s"),
        ("P99", _quantile(0.99), "s"),
        ("Cache hit rate", _hit_rate(), "percentunit"),
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
        "prometheus/prometheus.yml": _text(prometheus_scrape()),
        "grafana/acgs1.json": _text(grafana_dashboard()),
    }


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def _window(length: timedelta) -> str:
    minutes = int(length.total_seconds() // 60)
    return f"{minutes}m" if minutes < 60 else f"{minutes // 60}h"


def _errors(window: str) -> str:
    failed = f'sum by (service) (rate(acgs_http_requests_total{{status=~"5.."}}[{window}]))'
    return f"{failed} / sum by (service) (rate(acgs_http_requests_total[{window}]))"


def _quantile(fraction: float) -> str:
    return f"histogram_quantile({fraction:g}, sum by (service, le) (rate(acgs_http_request_seconds_bucket[5m])))"


def _hit_rate() -> str:
    hits = "sum by (service) (rate(acgs_cache_hits_total[30m]))"
    loads = "sum by (service) (rate(acgs_cache_loads_total[30m]))"
    return f"{hits} / ({hits} + {loads})"


def _failed_calls() -> str:
    return 'sum by (service, target, outcome) (rate(acgs_outbound_requests_total{outcome!="ok"}[5m]))'


if __name__ == "__main__":
    for name, content in files().items():
        path = Path(sys.argv[1]) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

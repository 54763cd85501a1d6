import re
from pathlib import Path

import yaml
from prometheus_client import REGISTRY, generate_latest

from acgs1.kit import telemetry
from acgs1.monitoring.exports import files, grafana_dashboard, prometheus_rules
from acgs1.optimizer.cache import IntelligentCache
from acgs1.optimizer.metrics import CacheCollector

DEPLOY = Path(__file__).parents[3] / "deploy"


def test_what_is_deployed_is_what_the_monitor_judges_by():
    for name, content in files().items():
        assert (DEPLOY / name).read_text() == content, f"run `python -m acgs1.monitoring.exports deploy` ({name})"
        assert yaml.safe_load(content)


async def test_rules_and_panels_name_metrics_that_exist():
    cache = IntelligentCache()
    await cache.get("s", "op", {})
    await cache.set("s", "op", {}, 1)
    await cache.get("s", "op", {})
    names = {sample.name for metric in CacheCollector(cache).collect() for sample in metric.samples}
    for metric in (telemetry.REQUESTS, telemetry.LATENCY, telemetry.OUTBOUND, telemetry.OUTBOX_PENDING):
        described = metric.describe()
        names |= {f"{family.name}{suffix}" for family in described for suffix in ("", "_total", "_bucket")}
    expressions = [rule["expr"] for rule in prometheus_rules()["groups"][0]["rules"]]
    expressions += [panel["targets"][0]["expr"] for panel in grafana_dashboard()["panels"]]
    used = {name for expression in expressions for name in re.findall(r"acgs_[a-z_]+", expression)}
    assert used <= names
    assert generate_latest(REGISTRY)

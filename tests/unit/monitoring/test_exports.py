import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from acgs1.contracts.topology import PARTS
from acgs1.kit import telemetry
from acgs1.monitoring import metrics
from acgs1.monitoring.exports import files, grafana_dashboard, prometheus_rules, prometheus_scrape
from acgs1.monitoring.objectives import RUNBOOKS, objectives
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
    told = [m for m in (*vars(telemetry).values(), *vars(metrics).values()) if isinstance(m, MetricWrapperBase)]
    assert len(told) > 12
    for metric in told:
        described = metric.describe()
        names |= {f"{family.name}{suffix}" for family in described for suffix in ("", "_total", "_bucket", "_count")}
    expressions = [rule["expr"] for rule in prometheus_rules()["groups"][0]["rules"]]
    expressions += [panel["targets"][0]["expr"] for panel in grafana_dashboard()["panels"]]
    used = {name for expression in expressions for name in re.findall(r"acgs_[a-z_]+", expression)}
    assert {"acgs_breaker_state", "acgs_breaker_calls_total", "acgs_breaker_rejected_total"} <= used
    assert used <= names
    assert generate_latest(REGISTRY)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (Debian package `prometheus`)")
def test_promtool_finds_the_rules_valid_and_firing_when_they_should():
    for command in (["check", "rules", "rules.yml"], ["test", "rules", "tests/rules.yml"]):
        ran = subprocess.run(
            ["promtool", *command], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_promise_has_rules_for_each_service_and_for_the_system():
    rules = prometheus_rules()["groups"][0]["rules"]
    promised = {o.name.removeprefix(f"{o.service}-") for o in objectives(["auth"])}
    for whole in (False, True):
        ruled = [r["labels"] for r in rules if "slo" in r["labels"]]
        assert {r["slo"] for r in ruled if ("system" in {r.get("service"), r.get("target")}) is whole} == promised


def test_every_part_is_scraped():
    (job,) = prometheus_scrape()["scrape_configs"]
    scraped = {entry["labels"]["part"]: entry["targets"] for entry in job["static_configs"]}
    assert scraped == {part.name: [f"127.0.0.1:{part.port}"] for part in PARTS}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (Debian package `prometheus`)")
def test_promtool_would_notice_a_rule_that_never_fires(tmp_path):
    shutil.copytree(DEPLOY / "prometheus", tmp_path / "prometheus")
    rules = tmp_path / "prometheus" / "rules.yml"
    rules.write_text(rules.read_text().replace(" > 14.4", " > 1000 + 14.4"))
    ran = subprocess.run(
        ["promtool", "test", "rules", "tests/rules.yml"], cwd=rules.parent, capture_output=True, check=False
    )
    assert ran.returncode != 0


def test_every_alert_names_a_section_of_the_runbooks():
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.removeprefix("## ").lower()).replace(" ", "-")
        for line in (DEPLOY.parent / RUNBOOKS).read_text().splitlines()
        if line.startswith("## ")
    }
    source = "".join(p.read_text() for p in (DEPLOY.parent / "src/acgs1/monitoring").glob("*.py"))
    named = {o.runbook.partition("#")[2] for o in objectives(["auth"])} | set(
        re.findall(r"\{RUNBOOKS\}#([a-z-]+)", source)
    )
    assert len(named) >= 9
    assert named <= headings

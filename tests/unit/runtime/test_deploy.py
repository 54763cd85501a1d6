"""deploy/ says what the code says: parts, ports, who may have several workers, and the rule that scales them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from acgs1.contracts.topology import LEDGER, PARTS, Part
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.scaling import MANY, Bounds, Rule, Scaler

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"

Manifest = dict[str, Any]


def load(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text()))


def manifests() -> list[Manifest]:
    kustomization = load(KUBERNETES / "kustomization.yaml")[0]
    return [manifest for name in kustomization["resources"] for manifest in load(KUBERNETES / name)]


def of(kind: str) -> Mapping[str, Manifest]:
    return {m["metadata"]["name"]: m for m in manifests() if m["kind"] == kind}


def dns(part: Part) -> str:
    return part.name.replace("_", "-")


def container(part: Part) -> Manifest:
    return of("StatefulSet")[dns(part)]["spec"]["template"]["spec"]["containers"][0]


def test_kustomize_lists_every_manifest_and_no_two_have_one_name():
    kustomization = load(KUBERNETES / "kustomization.yaml")[0]
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files
    names = [(m["apiVersion"], m["kind"], m["metadata"]["name"]) for m in manifests()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_part_is_started_on_its_port_and_reached_by_its_name(part: Part):
    assert {"name": "http", "containerPort": part.port} in container(part)["ports"]
    command = container(part)["command"]
    assert str(part.port) in command
    assert ("acgs1.ledger.node" if part is LEDGER else f"{part.module}:app") in command
    service = of("Service")[dns(part)]["spec"]
    labels = of("StatefulSet")[dns(part)]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert part.port in {port["port"] for port in service["ports"]}
    environment = of("ConfigMap")["acgs1"]["data"]
    settings = PlatformSettings.model_validate({"urls": yaml.safe_load(environment["ACGS_URLS"])})
    assert settings.url(part.name) == f"http://{dns(part)}:{part.port}"


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_only_a_service_that_may_have_several_workers_has_an_autoscaler(part: Part):
    workload = of("StatefulSet")[dns(part)]["spec"]
    scaled = dns(part) in of("HorizontalPodAutoscaler")
    assert scaled is (part.name in MANY)
    # With an autoscaler nobody else may say how many; without one it is one.
    assert workload.get("replicas") == (None if scaled else 1)
    numbered = [e for e in container(part)["env"] if e["name"] == "ACGS_WORKER"]
    assert bool(numbered) is scaled
    if scaled:
        where = numbered[0]["valueFrom"]["fieldRef"]["fieldPath"]
        assert where == "metadata.labels['apps.kubernetes.io/pod-index']"


@pytest.mark.parametrize("name", sorted(MANY))
def test_the_autoscaler_has_the_rule_of_the_command(name: str):
    rule = Rule()
    spec = of("HorizontalPodAutoscaler")[name.replace("_", "-")]["spec"]
    (metric,) = spec["metrics"]
    target = metric["resource"]["target"]
    assert (metric["type"], metric["resource"]["name"], target["type"]) == ("Resource", "cpu", "AverageValue")
    assert int(target["averageValue"].removesuffix("m")) / 1000 == rule.target
    assert spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == rule.up_window
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == rule.down_window
    # The autoscaler's tolerance is the cluster's, and 10 % by default.
    assert rule.tolerance == 0.1
    assert Bounds(spec["minReplicas"], spec["maxReplicas"]) == Bounds(1, 8)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name.replace("_", "-")}


def test_the_rule_wants_what_the_autoscaler_computes():
    """The worked examples of the algorithm: ceil(current x value / target), left alone within a tenth."""
    for current, used, wanted in ((1, 1.4, 2), (2, 1.05, 3), (4, 0.35, 2), (3, 0.72, 3), (3, 0.64, 3), (5, 0.14, 1)):
        scaler = Scaler(Bounds(1, 8), Rule(up_window=0, down_window=0))
        scaler.decide(0.0, current, 0.7)
        assert scaler.decide(1.0, current, used) == wanted, (current, used)


def test_every_container_runs_without_privileges():
    for part in PARTS:
        pod = of("StatefulSet")[dns(part)]["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        context = container(part)["securityContext"]
        assert context == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_no_manifest_holds_a_secret():
    assert not of("Secret")
    for part in PARTS:
        assert {"secretRef": {"name": "acgs1"}} in container(part)["envFrom"]


def test_compose_starts_the_system_with_settings_that_exist():
    compose = load(DEPLOY / "compose.yaml")[0]
    system = compose["services"]["acgs1"]
    known = {f"ACGS_{name.upper()}" for name in PlatformSettings.model_fields} | {"ALLOWED_ORIGINS"}
    assert system["environment"].keys() <= known
    assert system["command"] == ["up", "--workers", "auto"]
    assert {"postgres", "redis"} == system["depends_on"].keys() == compose["services"].keys() - {"acgs1"}
    published = {int(port.rpartition(":")[2]) for port in system["ports"]}
    assert published <= {part.port for part in PARTS}
    assert all(port.startswith("127.0.0.1:") for port in system["ports"])
    assert set(compose["volumes"]) == {"home", "postgres"}
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    for word in dockerfile.split("COPY ")[1].split("\n", 1)[0].split()[:-1]:
        assert (DEPLOY.parent / word).exists(), word

"""The manifests: valid for Kubernetes, complete, and in agreement with each other and with the service."""

from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from deployment import DEPLOYMENT, documents, exposed_metrics, verdict

from service.settings import PREFIX, Settings

KUBERNETES = DEPLOYMENT / "kubernetes"
BASE = KUBERNETES / "base"
KUSTOMIZATIONS = [BASE, *sorted((KUBERNETES / "overlays").iterdir())]
# The oldest that is still maintained somewhere, and the newest known here.
VERSIONS = ("1.30", "1.34")
# Kinds that no schema of Kubernetes itself describes.
CUSTOM_KINDS = {"ServiceMonitor"}

each_kustomization = pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda folder: folder.name)


def kustomization(folder: Path) -> dict[str, Any]:
    (only,) = documents(folder / "kustomization.yaml")
    return only


def base_objects() -> dict[str, dict[str, Any]]:
    """The base's objects by kind; it has one of each."""
    objects = [each for name in kustomization(BASE)["resources"] for each in documents(BASE / name)]
    assert len({each["kind"] for each in objects}) == len(objects)
    return {each["kind"]: each for each in objects}


@cache
def rendered(folder: Path) -> dict[str, dict[str, Any]]:
    """What `kubectl apply -k` would send, by kind."""
    objects = list(yaml.safe_load_all(verdict("kubectl", "kustomize", folder)))
    return {each["kind"]: each for each in objects}


def settings_file(folder: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (folder / "settings.env").read_text().splitlines())


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return only


@each_kustomization
def test_kustomization_renders_valid_objects(folder):
    objects = rendered(folder)
    assert set(objects) == {*base_objects(), "ConfigMap"}
    for version, kind in product(VERSIONS, set(objects) - CUSTOM_KINDS):
        kubernetes_validate.validate(objects[kind], version, strict=True)


@each_kustomization
def test_kustomization_names_exactly_the_files_beside_it(folder):
    content = kustomization(folder)
    patches = [patch["path"] for patch in content.get("patches", [])]
    generated = [file for generator in content["configMapGenerator"] for file in generator["envs"]]
    named = [name for name in content["resources"] if not name.startswith("..")] + patches + generated
    assert sorted(named) == sorted(file.name for file in folder.iterdir() if file.name != "kustomization.yaml")


@pytest.mark.parametrize("folder", KUSTOMIZATIONS[1:], ids=lambda folder: folder.name)
def test_overlay_changes_only_what_the_base_has(folder):
    content = kustomization(folder)
    base = base_objects()
    for patch in (each for entry in content["patches"] for each in documents(folder / entry["path"])):
        target = base[patch["kind"]]
        assert patch["metadata"]["name"] == target["metadata"]["name"]
        assert container(patch)["name"] == container(target)["name"]
    (image,) = kustomization(BASE)["images"]
    assert [each["name"] for each in content["images"]] == [image["newName"]]
    assert [each["name"] for each in content["configMapGenerator"]] == ["dvt-settings"]


@each_kustomization
def test_settings_are_accepted_by_the_service(folder):
    values = {name.removeprefix(PREFIX).lower(): value for name, value in settings_file(folder).items()}
    assert values
    Settings(**values)


def test_selectors_all_choose_the_pods_of_the_deployment():
    objects = base_objects()
    deployment = objects["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    (spread,) = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels
    target = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert {key: deployment[key] for key in ("apiVersion", "kind")} | deployment["metadata"] == target


def test_ports_are_named_alike_everywhere():
    objects = base_objects()
    (port,) = container(objects["Deployment"])["ports"]
    assert port["containerPort"] == Settings.model_fields["http_port"].default
    assert [each["targetPort"] for each in objects["Service"]["spec"]["ports"]] == [port["name"]]
    assert objects["NetworkPolicy"]["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": port["name"]}]
    probes = [container(objects["Deployment"])[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
    assert [probe["httpGet"] for probe in probes] == [
        {"path": path, "port": port["name"]} for path in ("/readyz", "/readyz", "/livez")
    ]


def test_service_monitor_selects_the_service_and_its_port():
    monitor, service = base_objects()["ServiceMonitor"], rendered(BASE)["Service"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] == "/metrics"
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]


@each_kustomization
def test_replica_has_time_to_drain_after_its_address_is_forgotten(folder):
    deployment = rendered(folder)["Deployment"]
    settings = settings_file(BASE) | settings_file(folder)
    drain_s = float(settings["DVT_DRAIN_DELAY_S"]) + float(settings["DVT_DRAIN_TIMEOUT_S"])
    grace_s = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    command, pre_stop_s = container(deployment)["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    assert grace_s > float(pre_stop_s) + drain_s + 5


@each_kustomization
def test_replica_may_write_only_to_tmp_and_gains_no_rights(folder):
    deployment = rendered(folder)["Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert container(deployment)["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [mount["mountPath"] for mount in container(deployment)["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp"]


def test_secrets_are_mounted_where_the_settings_look_and_none_is_in_the_repository():
    deployment = base_objects()["Deployment"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container(deployment)["volumeMounts"]}
    files = [entry["value"] for entry in container(deployment)["env"] if entry["name"].endswith("_FILE")]
    assert files
    assert all(file.startswith(f"{mounts['secrets']}/") for file in files)
    kinds = {each.get("kind") for file in KUBERNETES.rglob("*.yaml") for each in documents(file)}
    assert "Secret" not in kinds


def test_autoscaler_asks_for_a_metric_that_exists_and_that_the_adapter_serves():
    (metric,) = base_objects()["HorizontalPodAutoscaler"]["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    (rule,) = documents(KUBERNETES / "prometheus-adapter.yaml")[0]["rules"]["custom"]
    assert name in exposed_metrics()
    assert rule["name"]["as"] == name
    assert rule["seriesQuery"].startswith(f"{name}{{")
    assert f"{name}{{" in rule["metricsQuery"]


def test_gpu_overlay_gets_one_gpu_and_an_image_of_its_own():
    base, gpu = rendered(BASE)["Deployment"], rendered(KUBERNETES / "overlays/gpu")["Deployment"]
    assert container(gpu)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container(gpu)["image"] != container(base)["image"]
    assert rendered(KUBERNETES / "overlays/gpu")["ConfigMap"]["data"]["DVT_DEVICE"] == "cuda"

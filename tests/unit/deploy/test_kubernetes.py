"""The Kubernetes manifests: they obey the schemas, and every name in them exists."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cord_worker.config.environment import OTHER_VARIABLES, Settings
from tests.support.commands import unknown_of
from tests.support.manifests import OVERLAYS, kustomize, made, pod_of, scaling_query, written

ROOT = Path(__file__).parents[3]
README = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
KEDA = {
    "ScaledObject": {
        *("scaleTargetRef", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "idleReplicaCount"),
        *("minReplicaCount", "maxReplicaCount", "fallback", "advanced", "triggers"),
    },
    "TriggerAuthentication": {"secretTargetRef", "env", "filePath", "podIdentity"},
}
"""Fields of the `spec` of KEDA's objects. Kubernetes would drop another one in silence."""
VARIABLES = {f"CORD_{name.upper()}" for name in Settings.model_fields} | set(OTHER_VARIABLES)
PRESETS = {"demo": "tiny", "paper": "paper-hetero"}
SCALER_SETTINGS = {"query", "targetQueryValue", "activationTargetQueryValue"}
"""What KEDA's PostgreSQL scaler reads besides the connection (pkg/scalers/postgresql_scaler.go)."""

needs_kustomize = pytest.mark.skipif(kustomize() is None, reason="neither kustomize nor kubectl is installed")


def objects() -> list[tuple[str, dict[str, Any]]]:
    """Every object, as written and as made."""
    found = written()
    if kustomize() is not None:
        found += [(f"overlays/{name}", document) for name in OVERLAYS for document in made(name)]
    return found


def test_kubernetes_takes_every_object() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    versions = [kubernetes_validate.latest_version(), "1.29"]
    for name, document in objects():
        if not document["apiVersion"].startswith("keda.sh/"):
            for version in versions:
                kubernetes_validate.validate(document, version, strict=True)
        assert name


def test_keda_takes_its_objects() -> None:
    ours = [document for _, document in objects() if document["apiVersion"].startswith("keda.sh/")]
    assert {document["kind"] for document in ours} == set(KEDA)
    for document in ours:
        assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
        assert set(document["spec"]) <= KEDA[document["kind"]]
        if document["kind"] == "ScaledObject":
            assert set(document["spec"]["scaleTargetRef"]) <= {"apiVersion", "kind", "name", "envSourceContainerName"}
            assert 0 == document["spec"]["minReplicaCount"] < document["spec"]["maxReplicaCount"]
            (trigger,) = document["spec"]["triggers"]
            assert set(trigger) <= {"type", "name", "metadata", "authenticationRef", "metricType", "useCachedMetrics"}
            assert trigger["type"] == "postgresql"
            assert set(trigger["metadata"]) == SCALER_SETTINGS
            assert all(isinstance(value, str) for value in trigger["metadata"].values())


def test_commands_and_variables_exist_and_secrets_are_those_that_the_readme_makes() -> None:
    secrets, seen = set(), set()
    for name, document in objects():
        if document["kind"] == "TriggerAuthentication":
            secrets |= {(target["name"], target["key"]) for target in document["spec"]["secretTargetRef"]}
        for container in (pod_of(document) or {}).get("containers", ()):
            given = {variable["name"] for variable in container["env"]}
            assert {one for one in given if one.startswith("CORD_")} <= VARIABLES, name
            for variable in container["env"]:
                if "valueFrom" in variable:
                    reference = variable["valueFrom"]["secretKeyRef"]
                    secrets.add((reference["name"], reference["key"]))
            if container["image"].startswith("cord-"):
                assert unknown_of(container["args"]) == [], name
                seen.add(container["args"][0])
    assert seen == {"db", "coordinator", "worker"}
    for secret, key in secrets:
        made_by_hand = re.search(rf"create secret generic {secret}\b((?:.*\\\n)*.*)", README)
        assert made_by_hand is not None, secret
        assert f"--from-literal={key}=" in made_by_hand[1], (secret, key)


def test_processes_get_longer_to_end_than_their_work_and_say_when_they_are_ready() -> None:
    for name, document in objects():
        pod = pod_of(document)
        if pod is None or document["kind"] != "Deployment" or not pod["containers"][0]["image"].startswith("cord-"):
            continue
        (container,) = pod["containers"]
        values = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert pod["terminationGracePeriodSeconds"] >= float(values["CORD_GRACE_SECONDS"]) + 30, name
        ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
        for probe, path in (("startupProbe", "/alive"), ("livenessProbe", "/alive"), ("readinessProbe", "/ready")):
            assert container[probe]["httpGet"]["path"] == path, name
            assert ports[container[probe]["httpGet"]["port"]] == values["CORD_METRICS_PORT"], name
        assert values["CORD_METRICS_HOST"] == "0.0.0.0", "a probe comes from outside the pod"
        annotations = document["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == values["CORD_METRICS_PORT"]


def test_every_container_is_confined() -> None:
    for name, document in objects():
        pod = pod_of(document)
        if pod is None:
            continue
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            confined = container["securityContext"]
            assert confined["readOnlyRootFilesystem"] is True, name
            assert confined["allowPrivilegeEscalation"] is False, name
            assert confined["capabilities"] == {"drop": ["ALL"]}, name


@needs_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_has_one_worker_of_each_model_of_its_preset_and_budgets_that_find_their_pods(overlay: str) -> None:
    config = tomllib.loads((ROOT / "cord_worker" / "presets" / f"{PRESETS[overlay]}.toml").read_text(encoding="utf-8"))
    documents = made(overlay)
    workers = [one for one in documents if one["kind"] == "Deployment" and "cord-worker-" in one["metadata"]["name"]]
    hosted = {one["spec"]["template"]["spec"]["containers"][0]["args"][1]: one for one in workers}
    assert set(hosted) == set(config["models"])
    selectors = [one["spec"]["selector"]["matchLabels"] for one in workers]
    assert len({json.dumps(selector, sort_keys=True) for selector in selectors}) == len(workers)
    budgets = [one["spec"]["selector"]["matchLabels"] for one in documents if one["kind"] == "PodDisruptionBudget"]
    for one in documents:
        if one["kind"] == "Deployment" and one["metadata"]["name"].startswith(("cord-worker", "cord-coordinator")):
            labels = one["spec"]["template"]["metadata"]["labels"]
            fitting = [budget for budget in budgets if budget.items() <= labels.items()]
            assert len(fitting) == 1, one["metadata"]["name"]
    assert {one["metadata"].get("namespace") for one in documents} == {"cord"}


@needs_kustomize
def test_a_scaler_asks_for_the_work_of_the_model_whose_worker_it_scales() -> None:
    config = tomllib.loads((ROOT / "cord_worker" / "presets" / "paper-hetero.toml").read_text(encoding="utf-8"))
    documents = made("paper")
    deployments = {one["metadata"]["name"]: one for one in documents if one["kind"] == "Deployment"}
    credentials = {one["metadata"]["name"] for one in documents if one["kind"] == "TriggerAuthentication"}
    scalers = [one["spec"] for one in documents if one["kind"] == "ScaledObject"]
    assert len(scalers) == len(config["models"])
    for scaler in scalers:
        worker = deployments[scaler["scaleTargetRef"]["name"]]
        model = worker["spec"]["template"]["spec"]["containers"][0]["args"][1]
        (trigger,) = scaler["triggers"]
        assert trigger["metadata"]["query"] == scaling_query(config["models"][model]["path"])
        assert trigger["metadata"]["targetQueryValue"] == str(config["models"][model]["batch_size"])
        assert trigger["authenticationRef"]["name"] in credentials
        assert scaler["minReplicaCount"] == 0

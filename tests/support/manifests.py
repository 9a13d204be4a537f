"""The Kubernetes manifests of deploy/kubernetes, as they are written and as kustomize makes them."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = ("demo", "paper")


def written() -> list[tuple[str, dict[str, Any]]]:
    """Every object that is written out, with the name of its file; without kustomizations."""
    found: list[tuple[str, dict[str, Any]]] = []
    for path in sorted(FOLDER.rglob("*.yaml")):
        documents = yaml.safe_load_all(path.read_text(encoding="utf-8"))
        found += [(str(path.relative_to(FOLDER)), one) for one in documents if _is_object(one)]
    return found


def _is_object(document: dict[str, Any]) -> bool:
    return "kustomize" not in document.get("apiVersion", "kustomize")


def kustomize() -> list[str] | None:
    """The command that makes manifests; None if there is none here."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    return ["kubectl", "kustomize"] if shutil.which("kubectl") else None


@cache
def made(overlay: str) -> list[dict[str, Any]]:
    """The objects that kustomize makes of an overlay."""
    command = kustomize()
    assert command is not None
    called = subprocess.run(
        [*command, FOLDER / "overlays" / overlay], capture_output=True, text=True, timeout=60, check=False
    )
    assert called.returncode == 0, called.stderr
    return list(yaml.safe_load_all(called.stdout))


def pod_of(document: dict[str, Any]) -> dict[str, Any] | None:
    """The description of the pods that an object makes."""
    if document["kind"] in ("Deployment", "StatefulSet", "Job"):
        pod: dict[str, Any] = document["spec"]["template"]["spec"]
        return pod
    return None


def scaling_query(model: str) -> str:
    """The query of the scaler of one model, named by its path."""
    path = FOLDER / "scaling" / "scaled-object.yaml"
    first = next(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    query: str = first["spec"]["triggers"][0]["metadata"]["query"]
    return query.replace("MODEL PATH", model)

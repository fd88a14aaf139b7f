"""What kustomize renders of k8s/."""

import copy
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

K8S = Path(__file__).resolve().parents[2] / "k8s"
KUBECTL = Path(sysconfig.get_path("scripts")) / "kubectl"
OVERLAYS = DEV, PROD, EVERY = "dev", "prod", "prod with all components"
NAMESPACE = {DEV: "kubeflow", EVERY: "recllm"}
"""Where runs are pods."""
PROFILE = {DEV: "kind", EVERY: "h800"}
"""What runs there."""


def render(folder: Path) -> list[Manifest]:
    """Return the manifests of an overlay."""
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def render_all(scratch: Path) -> dict[str, list[Manifest]]:
    """Return the manifests of `OVERLAYS`; all components are those that prod has as comments."""
    shutil.copytree(K8S, scratch, dirs_exist_ok=True)
    prod = scratch / "overlays" / "prod"
    file = prod / "kustomization.yaml"
    file.write_text(re.sub(r"(?m)^  # - (?=\.\./)", "  - ", file.read_text()))
    folders = (K8S / "overlays" / "dev", K8S / "overlays" / "prod", prod)
    return {name: render(folder) for name, folder in zip(OVERLAYS, folders, strict=True)}


def of_kind(manifests: Iterable[Manifest], *kinds: str) -> list[Manifest]:
    """Return the manifests of these kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def names(manifests: Iterable[Manifest], kind: str) -> set[str]:
    """Return the names of the manifests of one kind."""
    return {manifest["metadata"]["name"] for manifest in of_kind(manifests, kind)}


def pod_templates(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return the pods that workloads describe, custom ones included, as their controllers complete them."""
    return [_pod(spec) for manifest in manifests for spec in _workloads(manifest.get("spec"))]


def _pod(workload: Manifest) -> Manifest:
    spec = copy.deepcopy(workload["template"]["spec"])
    for container in spec["containers"]:
        container.setdefault("image", "of-the-workload:1")
    for claim in workload.get("volumeClaimTemplates", []):
        source = {"claimName": claim["metadata"]["name"]}
        spec["volumes"].append({"name": claim["metadata"]["name"], "persistentVolumeClaim": source})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}


def _workloads(value: Any) -> list[Manifest]:
    """Return what holds the template of a pod, at any depth."""
    if isinstance(value, list):
        return [found for entry in value for found in _workloads(entry)]
    if not isinstance(value, dict):
        return []
    found = [value] if "containers" in value.get("template", {}).get("spec", {}) else []
    return found + [deeper for entry in value.values() for deeper in _workloads(entry)]

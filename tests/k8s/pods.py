"""The pods that a run makes, of the compiled pipeline and of pods that KFP and Argo made of another."""

import copy
import json
from pathlib import Path
from typing import Any

import yaml

from components.shared.spark.kubernetes import pod_template
from pipelines import profile
from pipelines.dag import compile_to
from tests.k8s.manifests import Manifest

STEP, DRIVER = yaml.safe_load_all((Path(__file__).parent / "recorded_pods.yaml").read_text())
GPU, PRODUCT = "nvidia.com/gpu", "nvidia.com/gpu.product"


def of_run(name: str, scratch: Path) -> dict[str, Manifest]:
    """Return the pods of a profile's run: each step's, KFP's `driver`, and Spark's `executor` if remote."""
    file, loaded = scratch / f"{name}.yaml", profile.load(name)
    compile_to(file, loaded, name)
    spec, platform = yaml.safe_load_all(file.read_text())
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    pods = {
        label.removeprefix("exec-"): _step(label, executor["container"], settings[label])
        for label, executor in spec["deploymentSpec"]["executors"].items()
    }
    remote = not loaded.sequences.spark.is_local
    return pods | {"driver": DRIVER} | ({"executor": _executor(pods["sequences"])} if remote else {})


def main_container(pod: Manifest) -> Manifest:
    """Return the container of a step's own program."""
    return next(entry for entry in pod["spec"]["containers"] if entry["name"] == "main")


def _step(label: str, container: Manifest, settings: Manifest) -> Manifest:
    """Return the pod that KFP's driver makes of a step (backend/src/v2/driver/k8s.go, 2.17.0)."""
    assert not settings.keys() - HANDLED, "the driver's part for this is missing here"
    pod = copy.deepcopy(STEP)
    pod["metadata"]["name"] = label
    pod["metadata"]["labels"] |= settings.get("podMetadata", {}).get("labels", {})
    main = next(entry for entry in pod["spec"]["containers"] if entry["name"] == "main")
    user = settings["securityContext"]
    main |= {"image": container["image"], "resources": _resources(container.get("resources", {}))}
    main["securityContext"] |= {key: int(user[key]) for key in ("runAsUser", "runAsGroup")}
    main["securityContext"]["runAsNonRoot"] = user["runAsNonRoot"]
    main["env"] = container.get("env", []) + _references(settings)
    main["volumeMounts"], volumes = _volumes(settings)
    pod["spec"]["volumes"] += volumes
    pod["spec"]["tolerations"] = settings.get("tolerations", [])
    if terms := settings.get("nodeAffinity"):
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        pod["spec"]["affinity"] = {"nodeAffinity": required}
    return pod


HANDLED = {
    *("securityContext", "podMetadata", "secretAsEnv", "configMapAsEnv", "pvcMount", "emptyDirMounts"),
    *("tolerations", "nodeAffinity", "activeDeadlineSeconds", "fieldPathAsEnv"),
}


def _resources(found: Manifest) -> Manifest:
    sides: dict[str, dict[str, Any]] = {"limits": {}, "requests": {}}
    for side, word in (("limits", "Limit"), ("requests", "Request")):
        for resource in ("cpu", "memory"):
            if amount := found.get(f"resource{resource.title()}{word}"):
                sides[side][resource] = amount
    if accelerator := found.get("accelerator"):
        sides["limits"][accelerator["resourceType"]] = accelerator["resourceCount"]
    return sides


def _references(settings: Manifest) -> list[Manifest]:
    kinds = (("secretAsEnv", "secret"), ("configMapAsEnv", "configMap"))
    fields = [
        {"name": field["name"], "valueFrom": {"fieldRef": {"fieldPath": field["fieldPath"]}}}
        for field in settings.get("fieldPathAsEnv", [])
    ]
    return fields + [
        {
            "name": pair["envVar"],
            "valueFrom": {
                f"{kind}KeyRef": {
                    "name": source[f"{kind}Name"],
                    "key": pair[f"{kind}Key"],
                    "optional": source["optional"],
                }
            },
        }
        for part, kind in kinds
        for source in settings.get(part, [])
        for pair in source["keyToEnv"]
    ]


def _volumes(settings: Manifest) -> tuple[list[Manifest], list[Manifest]]:
    mounts, volumes = [], []
    for claim in settings.get("pvcMount", []):
        volumes.append({"name": claim["constant"], "persistentVolumeClaim": {"claimName": claim["constant"]}})
        mounts.append({"name": claim["constant"], "mountPath": claim["mountPath"]})
    for folder in settings.get("emptyDirMounts", []):
        source = {key: folder[key] for key in ("medium", "sizeLimit") if key in folder}
        volumes.append({"name": folder["volumeName"], "emptyDir": source})
        mounts.append({"name": folder["volumeName"], "mountPath": folder["mountPath"]})
    return mounts, volumes


def _executor(driver: Manifest) -> Manifest:
    """Return an executor of the Spark driver in `driver`, as Spark completes the step's template."""
    pod = json.loads(json.dumps(pod_template(driver)))
    pod["metadata"] = {"name": "executor", "labels": {"spark-role": "executor"}}
    main = pod["spec"]["containers"][0]
    main["image"] = "spark:1"
    main["securityContext"] |= {"runAsUser": 1000, "runAsGroup": 0}  # those of the driver's process
    main["resources"] = {"requests": {"cpu": "8", "memory": "45Gi"}, "limits": {"memory": "45Gi"}}
    return pod

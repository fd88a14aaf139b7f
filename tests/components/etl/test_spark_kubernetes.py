"""Executor pods on a real cluster give the rows of a local run, also if one of them is deleted meanwhile.

RECLLM_CLUSTER_IMAGE names the Spark image as the cluster knows it, RECLLM_CLUSTER_ROOT an s3:// prefix, and
RECLLM_CLUSTER_SECRET a secret (NAME/ACCESS_KEY/SECRET_KEY) with the keys of the store. The cluster is that of
the kubeconfig, the store that of AWS_ENDPOINT_URL and AWS_*, for this process as for pods.
"""

import json
import os
import time
import uuid
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components.shared.artifacts.storage import Folder, download, remove, upload
from components.shared.errors import DataError

STEPS = Path(__file__).parent / "remote_steps.py"
NAMESPACE = os.environ.get("RECLLM_CLUSTER_NAMESPACE", "kubeflow")
NEEDED = ("RECLLM_CLUSTER_IMAGE", "RECLLM_CLUSTER_ROOT", "RECLLM_CLUSTER_SECRET", "AWS_ENDPOINT_URL")
SPARK = {
    "master": "k8s://https://kubernetes.default.svc",
    "memory": "1g",
    "shuffle_partitions": 2,
    "conf": {"spark.kubernetes.executor.request.cores": "100m"},  # two fit on a small node
}
UID = 12345  # any user but the image's

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not all(map(os.environ.get, NEEDED)), reason=f"needs {', '.join(NEEDED)}"),
]


@pytest.fixture(scope="module")
def api():
    from kubernetes import client, config

    config.load_kube_config()
    return client.CoreV1Api()


@pytest.fixture
def lake(prepared, tiny_model_folder):
    """Upload what both steps read; remove all of it at the end."""
    uri = f"{os.environ['RECLLM_CLUSTER_ROOT']}/{uuid.uuid4().hex}"
    for name, folder in {
        "data": prepared.data,
        "candidates": prepared.folder / "candidates",
        "model": tiny_model_folder,
    }.items():
        for file in folder.iterdir():
            upload(file, f"{uri}/{name}/{file.name}")
    yield uri
    remove(uri)


def driver_pod(lake: str) -> dict:
    """Return the pod of a step as placement makes it, for the restricted pod security standard."""
    secret, *keys = os.environ["RECLLM_CLUSTER_SECRET"].split("/")
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    env = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for name, key in zip(names, keys, strict=True)
    ]
    env.append({"name": "AWS_ENDPOINT_URL", "value": os.environ["AWS_ENDPOINT_URL"]})
    env.append({"name": "AWS_REGION", "value": os.environ.get("AWS_REGION", "us-east-1")})
    main = {
        "name": "main",
        "image": os.environ["RECLLM_CLUSTER_IMAGE"],
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", STEPS.read_text(), lake, json.dumps(SPARK)],
        "env": env,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": {
            "runAsUser": UID,
            "runAsGroup": 0,
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"spark-test-{uuid.uuid4().hex[:8]}"},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "pipeline-runner",
            "containers": [main],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


def executors(api, owner: str) -> list:
    found = api.list_namespaced_pod(NAMESPACE, label_selector="spark-role=executor").items
    return [pod for pod in found if pod.metadata.owner_references[0].name == owner]


def run_pod(api, pod: dict, while_running=lambda executors: None) -> tuple[str, str]:
    """Run `pod` to its end, calling `while_running` with its executors; return phase and log."""
    name = pod["metadata"]["name"]
    api.create_namespaced_pod(NAMESPACE, pod)
    try:
        while (phase := api.read_namespaced_pod(name, NAMESPACE).status.phase) in ("Pending", "Running"):
            while_running(executors(api, name))
            time.sleep(0.5)
        return phase, api.read_namespaced_pod_log(name, NAMESPACE)
    finally:
        api.delete_namespaced_pod(name, NAMESPACE)


def is_begun(lake: str) -> bool:
    """Return whether executors have written something."""
    try:
        return bool(Folder.at(f"{lake}/quarantine").files())
    except DataError:  # no such folder yet
        return False


def rows(folder: Path) -> list[str]:
    """Return every row with all its columns, sorted; Parquet stores what was written, so text will do."""
    return sorted(map(repr, pq.read_table(folder).to_pylist()))


@pytest.mark.parametrize("delete_one", [False, True], ids=["undisturbed", "an executor is deleted"])
def test_executor_pods_give_the_rows_of_a_local_run(
    api, lake, prepared, run_prompts_step, tiny_model_folder, tmp_path, delete_one
):
    ran: dict[str, str] = {}  # what the API shows of the executors' pods that ran, by name
    deleted: list[str] = []

    def watch(pods: list) -> None:
        running = {pod.metadata.name: str(pod) for pod in pods if pod.status.phase == "Running"}
        ran.update(running)
        if delete_one and not deleted and len(running) == 2 and is_begun(lake):
            deleted.append(min(running))
            api.delete_namespaced_pod(deleted[0], NAMESPACE, grace_period_seconds=0)

    phase, log = run_pod(api, driver_pod(lake), watch)
    assert phase == "Succeeded", log[-6000:]
    assert len(ran) >= 2
    assert bool(deleted) == delete_one
    assert not [name for name, pod in ran.items() if os.environ["AWS_SECRET_ACCESS_KEY"] in pod]
    run_prompts_step(prepared.folder, tiny_model_folder, tmp_path)
    for name in ("sequences", "catalogue", "users", "exposures", "quarantine", "prompts"):
        download(f"{lake}/{name}", tmp_path / "cluster" / name)
        expected = tmp_path if name == "prompts" else prepared.folder
        assert rows(tmp_path / "cluster" / name) == rows(expected / name), name

"""Spark's executors as pods beside a step's own pod: same image, node rules, user and S3 settings.

Everything is read from the step's pod by the Kubernetes API, which Spark's own client must be allowed to do
as well, so that placement is written once. Secrets stay references: no value is copied.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from components.shared.artifacts.storage import scratch_folder
from components.shared.errors import ConfigError

PREFIX = "k8s://"
WAIT_S = 600  # for the first executor; a node that has to be started and to pull the image needs minutes
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DRIVER_PORT, BLOCK_MANAGER_PORT = "7078", "7079"  # those of Spark's cluster mode, for network policies
CONTAINER = "main"  # Argo's name of the container that runs a step
# In a namespace of Kubeflow's Istio adds a container to every pod, which restricted pod security refuses.
NO_SIDECAR = {"sidecar.istio.io/inject": "false"}
NODE_RULES = ("affinity", "nodeSelector", "tolerations", "imagePullSecrets", "runtimeClassName")

Pod = Mapping[str, Any]


def own_pod() -> dict[str, Any]:
    """Return the pod of this process.

    Raises: ConfigError if this is no pod, or it may not be read.
    """
    from kubernetes import client, config

    # The host name of a pod is cut at 63 characters.
    name = os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME", "")
    try:
        config.load_incluster_config()
        namespace = (SERVICE_ACCOUNT / "namespace").read_text()
        answer = client.CoreV1Api().read_namespaced_pod(name, namespace, _preload_content=False)
    except (config.ConfigException, OSError) as error:
        raise ConfigError(
            f"spark.master={PREFIX}…: the driver must run in a pod with a service account ({error}); "
            "run the pipeline on the cluster, or set spark.master to local[*]"
        ) from error
    except client.ApiException as error:
        raise ConfigError(
            f"spark.master={PREFIX}…: the step's service account may not read its pod {name!r} "
            f"({error.status} {error.reason}); it needs get, list, watch, create and deletecollection of pods"
        ) from error
    return json.loads(answer.data)


def executor_settings(pod: Pod) -> dict[str, str]:
    """Return the Spark properties of a driver in `pod`, whose executors `pod_template` describes."""
    file = scratch_folder() / "executor.json"  # YAML, too
    file.write_text(json.dumps(pod_template(pod)))
    return {
        "spark.driver.host": pod["status"]["podIP"],
        "spark.driver.port": DRIVER_PORT,
        "spark.blockManager.port": BLOCK_MANAGER_PORT,
        "spark.kubernetes.namespace": pod["metadata"]["namespace"],
        "spark.kubernetes.driver.pod.name": pod["metadata"]["name"],  # owns the executors: they go with it
        "spark.kubernetes.container.image": _main(pod)["image"],
        "spark.kubernetes.executor.podTemplateFile": str(file),
        "spark.kubernetes.executor.podTemplateContainerName": CONTAINER,
        # What Spark's cluster mode gives Python jobs: rows are handled in processes beside the heap.
        "spark.executor.memoryOverheadFactor": "0.4",
        # The service account of a stock Kubeflow's steps may not create config maps.
        "spark.kubernetes.executor.disableConfigMap": "true",
    }


def pod_template(pod: Pod) -> dict[str, Any]:
    """Return the template of an executor's pod, which the restricted pod security standard admits."""
    main = _main(pod)
    container = {
        "name": CONTAINER,
        "command": [sys.executable, "-m", "components.shared.spark.executor"],
        "workingDir": "/tmp",
        "env": [variable for variable in main.get("env", []) if variable["name"].startswith("AWS_")],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": os.getuid(),
            "runAsGroup": os.getgid(),
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    spec = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    rules = {key: pod["spec"][key] for key in NODE_RULES if key in pod["spec"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": NO_SIDECAR}, "spec": spec | rules}


def wait_for_executor(spark: SparkSession, pod: Pod) -> None:
    """Wait until an executor has registered; Spark itself would wait for ever, silently.

    Raises: ConfigError naming why the executors' pods have not started within `WAIT_S`.
    """
    context = spark.sparkContext
    tracker = context._jsc.sc().statusTracker()
    deadline = time.monotonic() + WAIT_S
    while len(tracker.getExecutorInfos()) == 1:  # the driver counts as one
        if time.monotonic() > deadline:
            reasons = _waiting(pod["metadata"]["namespace"], context.applicationId)
            spark.stop()
            raise ConfigError(f"no Spark executor has started within {WAIT_S / 60:g} minutes: {reasons}")
        time.sleep(0.5)


def _waiting(namespace: str, application: str) -> str:
    from kubernetes import client

    selector = f"spark-app-selector={application}"
    answer = client.CoreV1Api().list_namespaced_pod(
        namespace, label_selector=selector, _preload_content=False
    )
    pods = json.loads(answer.data)["items"]
    if not pods:
        return "no pod could be created; the reason (a quota, an admission policy) is in the log above"
    return "; ".join(sorted({waiting_reason(pod) for pod in pods}))


def waiting_reason(pod: Pod) -> str:
    """Return why an executor's `pod` does not run, in Kubernetes' words."""
    status = pod["status"]
    states = [container["state"] for container in status.get("containerStatuses", [])]
    blocks = [state[kind] for state in states for kind in ("waiting", "terminated") if kind in state]
    blocks += [entry for entry in status.get("conditions", []) if entry["status"] == "False"]
    reasons = [f"{block.get('reason', '')} {block.get('message', '')}".strip() for block in blocks]
    return next(filter(None, reasons), f"phase {status.get('phase')}")


def _main(pod: Pod) -> dict[str, Any]:
    return next(entry for entry in pod["spec"]["containers"] if entry["name"] == CONTAINER)

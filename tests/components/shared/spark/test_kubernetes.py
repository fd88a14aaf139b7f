"""Executors' pods: what they take from the step's pod, and what an admission of restricted pods asks for."""

import json
import sys
from pathlib import Path

import kubernetes_validate
import pytest

from components.shared.errors import ConfigError
from components.shared.spark import executor, kubernetes
from components.shared.spark.config import SparkConfig
from components.shared.spark.session import session

NOT_ON_GPUS = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {
                    "matchExpressions": [
                        {"key": "nvidia.com/gpu.product", "operator": "NotIn", "values": ["NVIDIA-H800"]}
                    ]
                }
            ]
        }
    }
}
KEY = {
    "name": "AWS_SECRET_ACCESS_KEY",
    "valueFrom": {"secretKeyRef": {"name": "storage", "key": "secret-key", "optional": True}},
}
POD = {
    "metadata": {"name": "run-7-sequences-1", "namespace": "kubeflow"},
    "spec": {
        "affinity": NOT_ON_GPUS,
        "imagePullSecrets": [{"name": "registry"}],
        "serviceAccountName": "pipeline-runner",
        "containers": [
            {"name": "wait", "image": "argoexec"},
            {
                "name": "main",
                "image": "registry/spark:1a2b3c4",
                "env": [{"name": "ARGO_TEMPLATE", "value": "{…}"}, KEY],
            },
        ],
    },
    "status": {"podIP": "10.244.0.7"},
}


def test_the_template_is_valid_and_follows_the_steps_pod():
    template = kubernetes.pod_template(POD)
    spec, main = template["spec"], template["spec"]["containers"][0]
    named = {**main, "image": "added by Spark"}
    kubernetes_validate.validate({**template, "spec": {**spec, "containers": [named]}}, "1.34", strict=True)
    assert (spec["affinity"], spec["imagePullSecrets"]) == (NOT_ON_GPUS, [{"name": "registry"}])
    assert main["env"] == [KEY]
    assert main["command"] == [sys.executable, "-m", "components.shared.spark.executor"]


def test_the_driver_is_the_steps_pod():
    settings = kubernetes.executor_settings(POD)
    assert settings["spark.driver.host"] == "10.244.0.7"
    assert settings["spark.kubernetes.driver.pod.name"] == "run-7-sequences-1"
    assert settings["spark.kubernetes.namespace"] == "kubeflow"
    assert settings["spark.kubernetes.container.image"] == "registry/spark:1a2b3c4"
    file = Path(settings["spark.kubernetes.executor.podTemplateFile"])
    assert json.loads(file.read_text()) == kubernetes.pod_template(POD)


def test_outside_a_cluster_the_master_is_refused(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("pyspark.sql.SparkSession.getActiveSession", lambda: None)
    with pytest.raises(ConfigError, match="must run in a pod with a service account"):
        session(SparkConfig(master="k8s://https://kubernetes.default.svc"), "outside")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        pytest.param(
            {
                "phase": "Pending",
                "conditions": [
                    {"type": "PodReadyToStartContainers", "status": "True"},
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available: 3 Insufficient memory.",
                    },
                ],
            },
            "Unschedulable 0/3 nodes are available: 3 Insufficient memory.",
            id="no node",
        ),
        pytest.param(
            {
                "phase": "Pending",
                "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
                "containerStatuses": [
                    {"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
                ],
            },
            "ErrImagePull not found",
            id="no image",
        ),
        pytest.param({"phase": "Running"}, "phase Running", id="nothing said"),
    ],
)
def test_why_a_pod_does_not_start(status, reason):
    assert kubernetes.waiting_reason({"status": status}) == reason


def test_the_executors_command_keeps_options_in_order_and_whole():
    environment = {
        "SPARK_JAVA_OPT_10": "-Dten",
        "SPARK_JAVA_OPT_2": "-Dtwo=a b",
        "SPARK_EXECUTOR_MEMORY": "2g",
        "SPARK_DRIVER_URL": "spark://CoarseGrainedScheduler@10.244.0.7:7078",
        "SPARK_EXECUTOR_ID": "1",
        "SPARK_EXECUTOR_CORES": "2",
        "SPARK_APPLICATION_ID": "spark-abc",
        "SPARK_EXECUTOR_POD_IP": "10.244.0.8",
        "SPARK_RESOURCE_PROFILE_ID": "0",
        "SPARK_EXECUTOR_POD_NAME": "sequences-exec-1",
    }
    words = executor.command(environment, Path("/java"), "/spark")
    assert words[:5] == ["/java/bin/java", "-Dtwo=a b", "-Dten", "-Xms2g", "-Xmx2g"]
    assert words[5:7] == ["-cp", "/spark/jars/*"]
    assert words[words.index("--driver-url") + 1].endswith(":7078")
    assert words[-2:] == ["--podName", "sequences-exec-1"]

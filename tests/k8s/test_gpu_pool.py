"""The admission policy of the GPU pool, on a real API server."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiException, CoreV1Api

from tests.k8s.api_server import ApiServer, eventually
from tests.k8s.manifests import Manifest
from tests.k8s.pods import GPU, PRODUCT

TAINT = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
EIGHT = {"limits": {GPU: "8"}}


def pod(resources: Manifest | None = None, **spec: Any) -> Manifest:
    container = {"name": "main", "image": "some:1", "resources": resources or {}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "some", "namespace": "default"},
        "spec": {"containers": [container], **spec},
    }


def affinity(*operators: str) -> Manifest:
    """Return a required node affinity of one term per operator on the product."""
    terms = [
        {
            "matchExpressions": [
                {"key": PRODUCT, "operator": operator}
                | ({"values": ["NVIDIA-H800"]} if operator.endswith("In") else {})
            ]
        }
        for operator in operators
    ]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def preferring() -> Manifest:
    required = affinity("In")["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    preference = {"weight": 100, "preference": required["nodeSelectorTerms"][0]}
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}}


HOSTILE = {
    "no GPU": (pod(tolerations=[TAINT], affinity=affinity("In")), "without asking for a GPU"),
    "no GPU, tolerates everything": (
        pod(tolerations=[{"operator": "Exists"}], affinity=affinity("In")),
        "without asking for a GPU",
    ),
    "no product": (pod(EIGHT, tolerations=[TAINT]), "without naming a product"),
    "product only preferred": (pod(EIGHT, tolerations=[TAINT], affinity=preferring()), "without naming"),
    "any product": (pod(EIGHT, tolerations=[TAINT], affinity=affinity("Exists")), "without naming"),
    "all products but one": (pod(EIGHT, tolerations=[TAINT], affinity=affinity("NotIn")), "without naming"),
    "second term without the product": (
        pod(EIGHT, tolerations=[TAINT], affinity=affinity("In", "Exists")),
        "without naming a product",
    ),
    "past the scheduler": (pod(nodeName="gpu-1"), "names its node"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_does_not_ask_for_a_gpu_and_its_product_is_kept_off_the_pool(
    case: str, guarded: ApiServer
) -> None:
    manifest, reason = HOSTILE[case]
    answer = guarded.refusal("default", manifest)
    assert "recllm-gpu-pool" in answer and reason in answer


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param(pod(), id="an ordinary pod"),
        pytest.param(pod(EIGHT, tolerations=[TAINT], affinity=affinity("In", "In")), id="affinity"),
        pytest.param(
            pod(EIGHT, tolerations=[TAINT], nodeSelector={PRODUCT: "NVIDIA-H800"}), id="node selector"
        ),
        pytest.param(pod(tolerations=[{"key": "spot", "operator": "Exists"}]), id="another taint"),
        pytest.param(pod(tolerations=[{"operator": "Exists", "effect": "NoExecute"}]), id="another effect"),
    ],
)
def test_other_pods_are_admitted(manifest: Manifest, guarded: ApiServer) -> None:
    guarded.admit("default", manifest)


@pytest.mark.parametrize("namespace", ["kube-system", "gpu-operator", "local-path-storage"])
def test_the_agents_of_the_cluster_run_on_every_node(namespace: str, guarded: ApiServer) -> None:
    if namespace != "kube-system":
        guarded.kubectl("create", "namespace", namespace)
    agent = pod(tolerations=[{"operator": "Exists"}], hostNetwork=True)
    agent["metadata"]["namespace"] = namespace
    guarded.admit(namespace, agent)


@pytest.fixture
def waiting(guarded: ApiServer) -> Iterator[CoreV1Api]:
    """A pod without a node: to its tolerations others can be added."""
    api = CoreV1Api(guarded.client)
    api.create_namespaced_pod("default", pod())
    yield api
    api.delete_namespaced_pod("some", "default", grace_period_seconds=0)


def test_a_toleration_cannot_be_added_later(waiting: CoreV1Api) -> None:
    with pytest.raises(ApiException, match="without asking for a GPU"):
        waiting.patch_namespaced_pod("some", "default", {"spec": {"tolerations": [TAINT]}})


def test_labels_of_pods_older_than_the_policy_can_change(guarded: ApiServer, waiting: CoreV1Api) -> None:
    kinds = ("validatingadmissionpolicybinding", "recllm-gpu-pool")
    binding = guarded.kubectl("get", *kinds, "--output=yaml")
    guarded.kubectl("delete", *kinds)
    body = {"spec": {"tolerations": [TAINT]}}
    eventually(lambda: waiting.patch_namespaced_pod("some", "default", body))
    guarded.kubectl("create", "--filename=-", manifests=[clean(binding)])
    eventually(lambda: guarded.refusal("default", HOSTILE["no GPU"][0]))
    waiting.patch_namespaced_pod("some", "default", {"metadata": {"labels": {"seen": "yes"}}})
    assert waiting.read_namespaced_pod("some", "default").metadata.labels == {"seen": "yes"}


def clean(text: str) -> Manifest:
    found = yaml.safe_load(text)
    found["metadata"] = {"name": found["metadata"]["name"]}
    return found

"""The network policies, simulated: each flow that a run needs is open, all else is shut."""

from itertools import product

import pytest

from tests.k8s.manifests import OVERLAYS, Manifest
from tests.k8s.network import Network, Peer

DEV, PROD, EVERY = OVERLAYS
NAMESPACES = ("recllm", "mlflow", "kubeflow", "kube-system", "default")
PORTS = (22, 53, 80, 443, 4040, 5000, 5432, 6379, 6443, 7078, 7079, 8080, 8265, 8333, 8887, 8888, 10001)
RAY = {"ray.io/cluster": "recllm-grpo"}


def peers(runs: str, mlflow: str) -> dict[str, Peer]:
    labels = {
        "run": (runs, {"pipeline/runid": "1", "pipelines.kubeflow.org/v2_component": "true"}),
        "executor": (runs, {"spark-role": "executor"}),
        "ray head": (runs, RAY | {"ray.io/node-type": "head"}),
        "ray worker": (runs, RAY | {"ray.io/node-type": "worker"}),
        "mlflow": (mlflow, {"app": "mlflow"}),
        "database": (mlflow, {"app": "mlflow-db"}),
        "ml-pipeline": ("kubeflow", {"app": "ml-pipeline"}),
        "metadata": ("kubeflow", {"component": "metadata-grpc-server"}),
        "seaweedfs": ("kubeflow", {"app": "seaweedfs"}),
        "dns": ("kube-system", {"k8s-app": "kube-dns"}),
        "stranger": ("default", {"app": "mlflow"}),
    }
    pods = {name: Peer(f"10.1.0.{n}", *place) for n, (name, place) in enumerate(labels.items())}
    outside = {"api": "10.0.0.1", "internet": "1.1.1.1", "cloud metadata": "169.254.169.254"}
    return pods | {name: Peer(address) for name, address in outside.items()}


SERVERS = ("ml-pipeline", "metadata", "seaweedfs", "dns", "stranger")
"""Pods that no policy of ours guards."""
BASE = {
    ("run", "dns", 53),
    ("run", "ml-pipeline", 8887),
    ("run", "ml-pipeline", 8888),  # notify asks which step failed, window for the version
    ("run", "metadata", 8080),
    ("run", "seaweedfs", 8333),
    ("run", "mlflow", 5000),
    ("run", "executor", 7079),
    ("executor", "dns", 53),
    ("executor", "run", 7078),
    ("executor", "run", 7079),
    ("executor", "executor", 7079),
    ("mlflow", "dns", 53),
    ("mlflow", "database", 5432),
    # The API server's addresses are not known here, so all private ones count.
    *(("run", target, port) for target in ("api", *SERVERS) for port in (443, 6443)),
}
INSIDE = {(source, "seaweedfs", 8333) for source in ("executor", "mlflow")}
OUTSIDE = {(source, "internet", 443) for source in ("run", "executor", "mlflow")}
RAYS = ("ray head", "ray worker")
RAY_FLOWS = {("run", "ray head", 10001), *((ray, "dns", 53) for ray in RAYS), *product(RAYS, RAYS, PORTS)}
EXPECTED = {DEV: BASE | INSIDE, PROD: BASE | OUTSIDE, EVERY: BASE | OUTSIDE | RAY_FLOWS}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_a_run_needs_is_open_and_all_else_shut(
    overlay: str, rendered: dict[str, list[Manifest]]
) -> None:
    network = Network(rendered[overlay], NAMESPACES)
    known = peers(*(("kubeflow", "kubeflow") if overlay == DEV else ("recllm", "mlflow")))
    absent = () if overlay == EVERY else RAYS
    guarded = {"run", "executor", "mlflow", "database", *RAYS}.difference(absent)
    found = {
        (source, target, port)
        for source, target, port in product(known, known, PORTS)
        if guarded & {source, target}
        and not {source, target}.intersection(absent)
        and network.allows(known[source], known[target], port)
    }
    assert found == EXPECTED[overlay]


@pytest.mark.parametrize("overlay", [PROD, EVERY])
def test_any_other_pod_in_the_namespace_of_runs_reaches_nothing(
    overlay: str, rendered: dict[str, list[Manifest]]
) -> None:
    network, known = Network(rendered[overlay], NAMESPACES), peers("recllm", "mlflow")
    other = Peer("10.1.0.99", "recllm", {"app": "notebook"})
    for peer, port in product(known.values(), PORTS):
        assert not network.allows(other, peer, port) and not network.allows(peer, other, port)


def test_names_are_asked_for_by_udp(rendered: dict[str, list[Manifest]]) -> None:
    known = peers("recllm", "mlflow")
    network = Network(rendered[PROD], NAMESPACES)
    for source in ("run", "executor", "mlflow"):
        assert network.allows(known[source], known["dns"], 53, "UDP")
        assert not network.allows(known[source], known["internet"], 53, "UDP")


def test_servers_of_a_kubeflow_in_the_same_namespace_are_left_alone(
    rendered: dict[str, list[Manifest]],
) -> None:
    network, known = Network(rendered[DEV], NAMESPACES), peers("kubeflow", "kubeflow")
    for source, target in product(SERVERS, SERVERS):
        assert network.allows(known[source], known[target], 3306)

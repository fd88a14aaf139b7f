"""The overlays, rendered, and an API server where KUBEBUILDER_ASSETS names its binaries."""

import copy
import os
from collections.abc import Iterator
from pathlib import Path

import kubernetes
import pytest

from tests.k8s import api_server
from tests.k8s.manifests import DEV, NAMESPACE, PROFILE, Manifest, of_kind, pod_templates, render_all
from tests.k8s.pods import of_run


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Manifest]]:
    """The manifests by overlay."""
    return render_all(tmp_path_factory.mktemp("k8s"))


@pytest.fixture(scope="session")
def run_pods(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Manifest]]:
    """The pods of a run by overlay and step."""
    scratch = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECLLM_GIT_COMMIT", "0123456789abcdef0123456789abcdef01234567")
        return {overlay: of_run(profile, scratch) for overlay, profile in PROFILE.items()}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[api_server.ApiServer]:
    """An API server that knows the custom resources and has the namespaces of a Kubeflow."""
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    if not assets:
        pytest.skip("set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver (envtest)")
    with api_server.running(tmp_path_factory.mktemp("api"), Path(assets)) as server:
        server.kubectl("apply", "--filename", str(Path(__file__).parent / "crds"))
        for namespace in ("kubeflow", "recllm", "mlflow"):
            server.kubectl("create", "namespace", namespace)
        yield server


@pytest.fixture(scope="session")
def guarded(server: api_server.ApiServer, rendered: dict[str, list[Manifest]]) -> api_server.ApiServer:
    """The server with dev and prod in force."""
    for overlay, namespace in NAMESPACE.items():
        server.apply(rendered[overlay])
        (quota,) = of_kind(rendered[overlay], "ResourceQuota")
        hard = quota["spec"]["hard"]
        kubernetes.client.CoreV1Api(server.client).patch_namespaced_resource_quota_status(
            "recllm", namespace, {"status": {"hard": hard, "used": dict.fromkeys(hard, "0")}}
        )  # as the quota controller would
    hostile = copy.deepcopy(some := pod_templates(rendered[DEV])[0])
    hostile["spec"]["tolerations"] = [{"operator": "Exists"}]
    api_server.eventually(lambda: server.refusal("default", hostile))
    api_server.eventually(lambda: [server.admit(namespace, some) for namespace in NAMESPACE.values()])
    return server

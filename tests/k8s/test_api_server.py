"""What a real API server says to the manifests, to the pods of a run, and to what a run asks for."""

import copy

import pytest
from kubernetes.client import AuthorizationV1Api

from tests.k8s.api_server import ApiServer
from tests.k8s.manifests import DEV, EVERY, NAMESPACE, OVERLAYS, Manifest, pod_templates
from tests.k8s.pods import GPU, main_container

RunPods = dict[str, dict[str, Manifest]]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_would_take_each_overlay(
    overlay: str, server: ApiServer, rendered: dict[str, list[Manifest]]
) -> None:
    taken = server.apply(rendered[overlay], "--dry-run=server")
    assert len(taken.splitlines()) == len(rendered[overlay])


@pytest.mark.parametrize("overlay", NAMESPACE)
def test_every_pod_of_a_run_is_admitted(overlay: str, guarded: ApiServer, run_pods: RunPods) -> None:
    assert {"window", "sequences", "grpo", "register", "driver"} < run_pods[overlay].keys()
    for manifest in run_pods[overlay].values():
        guarded.admit(NAMESPACE[overlay], manifest)


def test_every_pod_of_the_manifests_is_admitted(
    guarded: ApiServer, rendered: dict[str, list[Manifest]]
) -> None:
    for manifest in pod_templates(rendered[EVERY]):
        guarded.admit("recllm", manifest)


def test_a_step_without_a_user_is_refused(guarded: ApiServer, run_pods: RunPods) -> None:
    step = copy.deepcopy(run_pods[DEV]["window"])
    del main_container(step)["securityContext"]["runAsNonRoot"]
    assert "runAsNonRoot" in guarded.refusal("kubeflow", step)


def test_more_than_the_quota_is_refused(guarded: ApiServer, run_pods: RunPods) -> None:
    step = copy.deepcopy(run_pods[EVERY]["grpo"])
    main_container(step)["resources"]["limits"][GPU] = "32"
    assert "exceeded quota: recllm" in guarded.refusal("recllm", step)


NEEDED = [
    *(("pods", verb, "", "") for verb in ("get", "list", "watch", "create", "deletecollection")),
    ("configmaps", "get", "", "kfp-launcher"),
    ("workflows", "get", "argoproj.io", ""),
    *(("workflowtaskresults", verb, "argoproj.io", "") for verb in ("create", "patch")),
]
"""What Spark's driver (client mode), KFP's driver and launcher, and Argo's executor ask for."""
FORBIDDEN = [
    *(("secrets", verb, "", "") for verb in ("get", "list", "watch", "create")),
    ("secrets", "get", "", "recllm-mlflow"),
    *(("configmaps", verb, "", "") for verb in ("list", "create", "deletecollection")),
    *(("pods", verb, "", "") for verb in ("update", "patch")),
    *((f"pods/{part}", "create", "", "") for part in ("exec", "attach", "ephemeralcontainers")),
    ("serviceaccounts/token", "create", "", ""),
    ("persistentvolumeclaims", "delete", "", "recllm-checkpoints"),
    ("workflows", "create", "argoproj.io", ""),
    ("rolebindings", "create", "rbac.authorization.k8s.io", ""),
    ("nodes", "list", "", ""),
]


@pytest.mark.parametrize(("overlay", "secret"), [(DEV, "mlpipeline-minio-artifact"), (EVERY, "recllm-s3")])
def test_a_run_may_do_what_it_needs_and_no_more(overlay: str, secret: str, guarded: ApiServer) -> None:
    namespace = NAMESPACE[overlay]
    api = AuthorizationV1Api(guarded.client)

    def may(resource: str, verb: str, group: str, name: str, where: str = namespace) -> bool:
        kind, _, part = resource.partition("/")
        asked = {"verb": verb, "group": group, "resource": kind, "subresource": part, "name": name}
        user = f"system:serviceaccount:{namespace}:recllm-runner"
        review = {"spec": {"user": user, "resourceAttributes": {**asked, "namespace": where}}}
        return api.create_subject_access_review(review).status.allowed

    needed = [*NEEDED, ("secrets", "get", "", secret)]
    assert [entry for entry in needed if not may(*entry)] == []
    assert [entry for entry in FORBIDDEN if may(*entry)] == []
    assert [entry for entry in needed if may(*entry, where="default")] == []

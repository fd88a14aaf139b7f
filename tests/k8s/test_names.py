"""What a run's pods and the manifests refer to is defined, or in the README's table of secrets."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from pipelines import profile
from tests.k8s.manifests import EVERY, K8S, NAMESPACE, PROFILE, Manifest, names, of_kind, pod_templates

KUBEFLOW = {"metadata-grpc-configmap", "kfp-launcher"}
"""Config maps that Kubeflow puts into every namespace of runs."""


@pytest.fixture(scope="module")
def secrets() -> set[tuple[str, str]]:
    """Each secret's keys as the README has the user write them."""
    rows = re.findall(r"(?m)^\| `([\w-]+)` \|([^|]*)\|", (K8S / "README.md").read_text())
    return {(name, key) for name, keys in rows for key in re.findall("`([^`]+)`", keys)}


def found(key: str, value: Any) -> Iterator[Manifest]:
    """Yield what stands under `key`, at any depth."""
    if isinstance(value, list):
        for entry in value:
            yield from found(key, entry)
    elif isinstance(value, dict):
        if key in value:
            yield value[key]
        for entry in value.values():
            yield from found(key, entry)


@pytest.fixture(scope="module")
def pods(
    rendered: dict[str, list[Manifest]], run_pods: dict[str, dict[str, Manifest]]
) -> dict[str, list[Manifest]]:
    return {name: [*pods.values(), *pod_templates(rendered[name])] for name, pods in run_pods.items()}


@pytest.mark.parametrize("overlay", NAMESPACE)
def test_secrets_are_those_that_the_readme_tells_to_create(
    overlay: str, pods: dict[str, list[Manifest]], secrets: set[tuple[str, str]]
) -> None:
    wanted = {(source["name"], source["key"]) for source in found("secretKeyRef", pods[overlay])}
    for volume in found("secret", pods[overlay]):
        wanted |= {(volume["secretName"], item["key"]) for item in volume["items"]}
    assert len(wanted) >= 4 and wanted <= secrets


@pytest.mark.parametrize("overlay", NAMESPACE)
def test_config_maps_and_claims_are_defined(
    overlay: str, pods: dict[str, list[Manifest]], rendered: dict[str, list[Manifest]]
) -> None:
    manifests = rendered[overlay]
    config_maps = {source["name"] for source in found("configMapRef", pods[overlay])}
    config_maps |= {source["name"] for source in found("configMapKeyRef", pods[overlay])}
    assert config_maps <= names(manifests, "ConfigMap") | KUBEFLOW
    claims = {claim["claimName"] for claim in found("persistentVolumeClaim", pods[overlay])}
    templates = [claim for claims in found("volumeClaimTemplates", manifests) for claim in claims]
    own = {claim["metadata"]["name"] for claim in templates}
    assert claims <= names(manifests, "PersistentVolumeClaim") | own


@pytest.mark.parametrize("overlay", NAMESPACE)
def test_the_profile_names_the_mlflow_that_is_there(
    overlay: str, rendered: dict[str, list[Manifest]]
) -> None:
    (service,) = (m for m in of_kind(rendered[overlay], "Service") if m["metadata"]["name"] == "mlflow")
    address = f"mlflow.{service['metadata']['namespace']}:{service['spec']['ports'][0]['port']}"
    assert profile.load(PROFILE[overlay]).register.tracking_uri == f"http://{address}"
    (settings,) = (m for m in of_kind(rendered[overlay], "ConfigMap") if m["metadata"]["name"] == "mlflow")
    assert address in settings["data"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")


@pytest.mark.parametrize("overlay", NAMESPACE)
def test_roles_and_the_launcher_name_secrets_of_the_readme(
    overlay: str, rendered: dict[str, list[Manifest]], secrets: set[tuple[str, str]]
) -> None:
    named = {
        name
        for role in of_kind(rendered[overlay], "Role")
        for rule in role["rules"]
        if rule["resources"] == ["secrets"]
        for name in rule["resourceNames"]
    }
    assert named and named <= {name for name, _ in secrets}


def test_the_pipeline_root_is_the_profiles_and_its_keys_are_in_a_secret(
    rendered: dict[str, list[Manifest]], secrets: set[tuple[str, str]]
) -> None:
    (launcher,) = (m for m in rendered[EVERY] if m["metadata"]["name"] == "kfp-launcher")
    placement = profile.load(PROFILE[EVERY]).placement
    assert launcher["data"]["defaultPipelineRoot"] == placement.root
    store = yaml.safe_load(launcher["data"]["providers"])["s3"]["default"]
    assert placement.env["AWS_ENDPOINT_URL"] == f"https://{store['endpoint']}"
    assert placement.env["AWS_REGION"] == store["region"]
    keys = store["credentials"]["secretRef"]
    assert {(keys["secretName"], keys[key]) for key in ("accessKeyKey", "secretKeyKey")} <= secrets

"""Every overlay, against the schemas of Kubernetes and of the operators that it uses."""

from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.k8s.manifests import EVERY, K8S, OVERLAYS, Manifest, names, of_kind, pod_templates

CRD_FILES = [yaml.safe_load(path.read_text()) for path in (Path(__file__).parent / "crds").iterdir()]
CRDS = {
    (crd["spec"]["names"]["kind"], f"{crd['spec']['group']}/{version['name']}"): version["schema"][
        "openAPIV3Schema"
    ]
    for path in Path(__file__).parent.glob("crds/*.yaml")
    for crd in [yaml.safe_load(path.read_text())]
    for version in crd["spec"]["versions"]
}
VERSIONS = ("1.34", kubernetes_validate.latest_version())


def refuse_unknown(schema: Any) -> Any:
    """Return the schema of a custom resource as an API server reads it under strict validation."""
    if isinstance(schema, list):
        return [refuse_unknown(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: refuse_unknown(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        closed["additionalProperties"] = False
    return closed


def check(manifest: Manifest) -> None:
    """Raise if an API server would refuse the fields of `manifest`."""
    key = (manifest["kind"], manifest["apiVersion"])
    if key in CRDS:
        jsonschema.validate({**manifest, "metadata": {}}, refuse_unknown(CRDS[key]))
        return
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_fits_its_schema(overlay: str, rendered: dict[str, list[Manifest]]) -> None:
    for manifest in [*rendered[overlay], *pod_templates(rendered[overlay])]:
        check(manifest)


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        pytest.param("Deployment", ["spec", "template", "spec"], id="of Kubernetes"),
        pytest.param("ClusterQueue", ["spec"], id="of Kueue"),
        pytest.param("RayCluster", ["spec", "headGroupSpec"], id="of KubeRay"),
        pytest.param("SparkApplication", ["spec", "driver"], id="of the Spark operator"),
    ],
)
def test_an_unknown_field_is_refused(kind: str, path: list[str], rendered: dict[str, list[Manifest]]) -> None:
    manifest = of_kind(rendered[OVERLAYS[-1]], kind)[0]
    check(manifest)
    inner = yaml.safe_load(yaml.safe_dump(manifest))
    place = inner
    for key in path:
        place = place[key]
    place["tolerence"] = []
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError), match="tolerence"):
        check(inner)


def test_spark_submits_a_file_of_ours(rendered: dict[str, list[Manifest]]) -> None:
    (application,) = of_kind(rendered[EVERY], "SparkApplication")
    file = application["spec"]["mainApplicationFile"].partition("site-packages/")[2]
    assert file.startswith("pipelines/") and (K8S.parent / file).is_file()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_object_has_one_definition_in_a_namespace_that_exists(
    overlay: str, rendered: dict[str, list[Manifest]]
) -> None:
    identities = [
        (m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in rendered[overlay]
    ]
    assert len(set(identities)) == len(identities)
    cluster_wide = {"Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    cluster_wide |= {"ClusterQueue", "ResourceFlavor"}
    for kind, namespace, name in identities:
        expected = {None} if kind in cluster_wide else names(rendered[overlay], "Namespace")
        assert namespace in expected, (kind, name)


def test_no_manifest_holds_a_secret(rendered: dict[str, list[Manifest]]) -> None:
    assert not any(of_kind(manifests, "Secret") for manifests in rendered.values())


def test_every_component_is_offered_by_prod() -> None:
    text = (K8S / "overlays" / "prod" / "kustomization.yaml").read_text()
    assert all(f"../../components/{path.name}" in text for path in (K8S / "components").iterdir())

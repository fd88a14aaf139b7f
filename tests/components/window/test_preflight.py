"""Every fault is found at once, on real storage, a real MLflow server and what a cluster answers."""

import os
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from components.shared.artifacts.storage import Folder
from components.shared.errors import ConfigError
from components.shared.tracking import mlflow_client, registry
from components.window import preflight
from components.window.config import GpuRequest, PreflightConfig, WindowConfig
from components.window.preflight import Check, require
from tests.components.shared.artifacts import s3_server

HEALTH = "/apis/v2beta1/healthz"


def check(config: WindowConfig, title: str, data: str = "", *texts: str, **wanted: Any) -> Check:
    """Return what the check called `title` finds."""
    checks = preflight.run(replace(config, preflight=PreflightConfig(**wanted)), data, texts)
    return next(found for found in checks if found.title.startswith(title))


@pytest.fixture(autouse=True)
def no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBERNETES_SERVICE_HOST", "KFP_POD_NAME", "KF_PIPELINES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")


def test_a_local_run_checks_data_registry_and_checkpoints(config, data: Path, tmp_path: Path) -> None:
    checks = preflight.run(
        replace(config, preflight=PreflightConfig(checkpoints=str(tmp_path / "new"))), str(data)
    )
    assert [(found.title, found.status) for found in checks] == [
        (f"folder {tmp_path / 'new'}", "ok"),
        ("raw data", "ok"),
        ("MLflow", "ok"),
    ]
    assert list((tmp_path / "new").iterdir()) == []
    require(checks)


def test_all_faults_are_in_one_error(config, pod, data: Path) -> None:
    (data / "items.csv").unlink()
    (data / "events.csv").write_text("user_id,item_id,action\n")
    wanted = PreflightConfig(volumes=("/nowhere",), secrets={"RECLLM_TOKEN": "hub/token"})
    checks = preflight.run(
        replace(config, tracking_uri="http://127.0.0.1:9", preflight=wanted), str(data), ["{{$.time}}"]
    )
    with pytest.raises(ConfigError) as caught:
        require(checks)
    first, *lines = str(caught.value).splitlines()
    assert first == "the run would fail, so it ends here:"
    for line, part in zip(
        lines,
        [
            "- volume /nowhere: nothing is mounted there",
            "- secrets: RECLLM_TOKEN: .* kubectl create secret generic hub --from-literal=token=",
            "- raw data: .*no items table",
            "- raw data: .*column 'timestamp' is missing",
            "- Kubeflow Pipelines: .*hands over {{\\$.time}} as it stands; 2.17",
            "- MLflow: .*no answer from http://127.0.0.1:9",
        ],
        strict=True,
    ):
        assert re.match(part, line)


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        pytest.param({"user_id": [1.5]}, "column 'user_id' has type double, expected string", id="type"),
        pytest.param({"user_id": pa.array([], pa.string())}, "the users table has no rows", id="no rows"),
        pytest.param({"id": ["u1"]}, "column 'user_id' is missing", id="no column"),
    ],
)
def test_a_table_that_breaks_its_contract_is_named(config, data: Path, table: dict, fault: str) -> None:
    (data / "users.csv").unlink()
    pq.write_table(pa.table(table), data / "users.parquet")
    found = check(config, "raw data", str(data))
    assert found.status == "failed"
    assert fault in found.detail


def test_shown_lists_may_be_missing_unless_their_folder_is_named(config, data: Path, tmp_path: Path) -> None:
    assert "exposures" not in check(config, "raw data", str(data)).detail
    found = check(replace(config, exposures=str(tmp_path)), "raw data", str(data))
    assert "no exposures table" in found.detail
    found = check(replace(config, needs_exposures="gate.beats: online"), "raw data", str(data))
    assert found.status == "failed"
    assert f"gate.beats: online needs the table exposures, and {data} has none" in found.detail


def test_parts_without_rows_are_no_fault_unless_all_are(config, data: Path) -> None:
    header, row = (data / "events.csv").read_text().splitlines()
    (data / "events.csv").unlink()
    (data / "events").mkdir()
    for number in range(6):
        (data / "events" / f"part-{number}.csv").write_text(f"{header}\n{row * (number % 2)}\n")
    assert check(config, "raw data", str(data)).status == "ok"
    for file in (data / "events").iterdir():
        file.write_text(f"{header}\n")
    assert "the events table has no rows" in check(config, "raw data", str(data)).detail


def test_a_missing_folder_is_one_fault(config, tmp_path: Path) -> None:
    found = check(config, "raw data", str(tmp_path / "nowhere"))
    assert found.status == "failed"
    assert len(found.detail.splitlines()) == 1


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory):
    with s3_server.serving(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(storage, data: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in storage.environment.items():
        monkeypatch.setenv(name, value)
    return storage.upload(data, "logs", "day")


def test_storage_is_written_read_and_left_as_it_was(config, bucket: str) -> None:
    found = preflight.run(
        replace(config, preflight=PreflightConfig(root="minio://logs/root", checkpoints="s3://logs/day")),
        bucket,
    )
    assert [(one.title, one.status) for one in found] == [
        ("MLflow", "ok"),
        ("storage minio://logs/root", "ok"),
        ("storage s3://logs/day", "ok"),
        ("raw data", "ok"),
    ]
    names = [Path(file.path).name for file in Folder.at("s3://logs").files()]
    assert sorted(names) == ["events.csv", "items.csv", "users.csv"]


@pytest.mark.parametrize(
    ("environment", "fault"),
    [
        pytest.param({"AWS_ACCESS_KEY_ID": "who"}, "AWS_ACCESS_KEY_ID is unknown", id="key"),
        pytest.param({"AWS_SECRET_ACCESS_KEY": "a"}, "does not fit AWS_ACC", id="secret"),
        pytest.param({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "no answer from http://127.0", id="port"),
        pytest.param({"AWS_ENDPOINT_URL": "seaweedfs:8333"}, "correct AWS_END", id="address"),
    ],
)
def test_storage_that_refuses_says_why(
    config, bucket, monkeypatch, environment: dict[str, str], fault: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = check(config, "storage", checkpoints=bucket)
    assert found.status == "failed"
    assert fault in found.detail
    assert len(found.detail.splitlines()) == 1


def test_a_server_that_is_no_object_storage_is_named(config, bucket, answering, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", answering({}))
    assert "write refused (404): AWS_ENDPOINT_URL is no S3" in check(config, "storage", root=bucket).detail


def test_storage_without_credentials_names_them(config, bucket, monkeypatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    assert "no credentials; set AWS_ACCESS_KEY_ID" in check(config, "storage", root="s3://logs/x").detail


def test_what_only_pods_can_reach_is_not_checked_elsewhere(config, monkeypatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    served = replace(config, tracking_uri="http://mlflow.invalid:5000")
    found = check(served, "MLflow", cluster=True)
    assert (found.status, found.detail.split(";")[0]) == (
        "not checked",
        "mlflow.invalid is a name of the cluster's",
    )
    assert check(served, "MLflow").status == "failed"
    for title in ("storage", "raw data"):
        found = check(config, title, "s3://logs/day", root="s3://logs/x", cluster=True)
        assert found.status == "not checked"
    (found,) = preflight.from_outside(config, "s3://logs/day")
    assert found.status == "not checked"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")  # a notebook's pod
    (found,) = preflight.from_outside(config, "s3://logs/day")
    assert found.status == "not checked"
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    # Keys alone would be tried at AWS.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    found = check(config, "storage", root="s3://logs/x", cluster=True, endpoint="http://seaweedfs:9000")
    assert (found.status, found.detail.split(",")[0]) == ("not checked", "AWS_ENDPOINT_URL is not set")


@pytest.mark.slow
def test_a_server_lets_us_register_and_is_left_without_a_trace(config, mlflow_uri: str) -> None:
    served = replace(config, tracking_uri=mlflow_uri)
    assert check(served, "MLflow").status == "ok"
    model = registry.find_model(mlflow_client.connect(mlflow_uri), config.model_name)
    assert model is not None and model.tags == {}


def test_a_registry_that_refuses_is_named(config, answering) -> None:
    refused = (403, {"error_code": "PERMISSION_DENIED", "message": "read only"})
    uri = answering({"/health": (200, {}), "/api/2.0/mlflow/registered-models/get": refused})
    found = check(replace(config, tracking_uri=uri), "MLflow")
    assert found.status == "failed"
    assert "HTTP status 403: PERMISSION_DENIED: read only; these credentials" in found.detail


def test_secrets_are_only_demanded_in_a_pod(config, pod, monkeypatch) -> None:
    monkeypatch.setenv("RECLLM_SET", "value")
    monkeypatch.setenv("RECLLM_EMPTY", "")
    secrets = {"RECLLM_SET": "a/b", "RECLLM_EMPTY": "storage/key", "RECLLM_UNSET": "hub/token"}
    found = check(config, "secrets", secrets=secrets)
    assert found.status == "failed"
    assert [line.split(";")[0] for line in found.detail.splitlines()] == [
        "RECLLM_EMPTY: secret storage has no key key, or it is empty",
        "RECLLM_UNSET: secret hub has no key token, or it is empty",
    ]
    assert check(config, "secrets", secrets={"RECLLM_SET": "a/b"}).detail == "RECLLM_SET"
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    found = check(config, "secrets", secrets=secrets)
    assert found.status == "not checked"
    assert "RECLLM_UNSET (hub/token)" in found.detail


def test_a_missing_config_map_is_named(config, pod) -> None:
    found = check(config, "config maps", config_maps={"RECLLM_UNSET": "site/region"})
    assert found.status == "failed"
    assert "configmap site has no key region" in found.detail
    assert "kubectl create configmap site --from-literal=region=…" in found.detail


@pytest.mark.parametrize(
    ("answer", "status", "detail"),
    [
        pytest.param((200, {"tag_name": "2.17.0"}), "ok", "2.17.0 at http", id="right"),
        pytest.param((200, {"tag_name": "2.16.0"}), "failed", "version 2.16.0 at .* is too old", id="old"),
        pytest.param((200, {"tag_name": "dev"}), "not checked", "says that it is dev", id="unnumbered"),
        pytest.param((403, {}), "not checked", "does not say its version: HTTP Error 403", id="forbidden"),
    ],
)
def test_the_version_of_kubeflow_pipelines(
    config, answering, monkeypatch, answer: Any, status: str, detail: str
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", answering({HEALTH: answer}))
    found = check(config, "Kubeflow Pipelines", cluster=True)
    assert found.status == status
    assert re.search(detail, found.detail)


def test_an_unfilled_placeholder_names_the_version_that_left_it(config, answering, monkeypatch) -> None:
    host, port = answering({HEALTH: (200, {"tag_name": "2.4.1"})}).removeprefix("http://").split(":")
    monkeypatch.setenv("ML_PIPELINE_SERVICE_HOST", host)
    monkeypatch.setenv("ML_PIPELINE_SERVICE_PORT", port)
    found = check(config, "Kubeflow Pipelines", "", "[[ScheduledTime]]")
    assert found.status == "failed"
    assert found.detail.startswith(
        "version 2.4.1 hands over [[ScheduledTime]] as it stands; 2.17 fills it in"
    )


def node(product: str, gpus: str) -> dict[str, Any]:
    labels = {"nvidia.com/gpu.product": product} if product else {}
    return {"metadata": {"name": "n", "labels": labels}, "status": {"allocatable": {"nvidia.com/gpu": gpus}}}


@pytest.mark.parametrize(
    ("nodes", "status", "detail"),
    [
        pytest.param([node("", "0"), node("NVIDIA-H800", "8")], "ok", "NVIDIA-H800 (8 a node)", id="there"),
        pytest.param(
            [node("NVIDIA-H800", "4"), node("NVIDIA-A10", "8")],
            "failed",
            "no node has 8 of NVIDIA-H800; found: NVIDIA-H800 (4 a node), NVIDIA-A10 (8 a node);",
            id="too few",
        ),
        pytest.param([], "failed", "found: none", id="none"),
        pytest.param(None, "not checked", "nodes cannot be listed (Forbidden)", id="forbidden"),
    ],
)
def test_the_gpus_of_the_nodes(
    config, answering, monkeypatch, tmp_path: Path, nodes: Any, status: str, detail: str
) -> None:
    listed = (403, {}) if nodes is None else (200, {"kind": "NodeList", "apiVersion": "v1", "items": nodes})
    cluster = {"name": "c", "cluster": {"server": answering({"/api/v1/nodes": listed})}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    users = [{"name": "u", "user": {}}]
    settings = {"current-context": "c", "clusters": [cluster], "contexts": [context], "users": users}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(settings))
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig")
    )
    found = check(config, "GPUs", gpus=(GpuRequest(products=("NVIDIA-H800",), gpus=8),))
    assert found.status == status
    assert detail in found.detail


def test_gpus_are_not_checked_without_a_cluster(config, monkeypatch) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", "/nowhere")
    assert (
        check(config, "GPUs", gpus=(GpuRequest(products=("NVIDIA-H800",), gpus=8),)).status == "not checked"
    )


def test_volumes_are_checked_in_a_pod_and_hold_checkpoints(config, pod, monkeypatch, tmp_path) -> None:
    checks = {"volumes": (str(tmp_path),), "checkpoints": str(tmp_path / "checkpoints")}
    assert check(config, "volume", **checks).status == "ok"
    assert check(config, "volume", volumes=("/proc",)).detail.startswith("cannot be written to")
    assert not (tmp_path / "checkpoints").exists()
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    assert check(config, "volume", volumes=("/nowhere",)).status == "not checked"


def test_a_folder_that_cannot_be_made_is_named(config) -> None:
    found = check(config, "folder /dev/null/checkpoints", checkpoints="/dev/null/checkpoints")
    assert found.detail == f"cannot be made ({os.strerror(20)}); name another folder"


def test_a_check_that_hangs_fails_and_the_others_are_heard(config, data: Path, monkeypatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(preflight, "LIMIT", 0.3)
    monkeypatch.setattr(preflight, "_mlflow", lambda config: str(over.wait(60)))
    served = replace(config, tracking_uri="http://127.0.0.1:9")
    checks = {found.title: found for found in preflight.run(served, str(data))}
    over.set()
    assert checks["raw data"].status == "ok"
    assert checks["MLflow"].status == "failed"
    assert checks["MLflow"].detail.startswith("no answer within")

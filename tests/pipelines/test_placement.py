"""Placement: what the pods of a compiled pipeline ask for, and what a profile for a cluster refuses."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.shared.errors import ConfigError
from pipelines import lineage, profile
from pipelines.dag import compile_to
from pipelines.placement import PRODUCT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Compiled = tuple[dict[str, Any], dict[str, Any]]


def compile_profile(path: Path, name: str, changes: Mapping[str, Any] | None = None) -> Compiled:
    """Compile a profile; return containers and Kubernetes settings by step."""
    compile_to(path, profile.load(name, changes), name)
    spec, platform = yaml.safe_load_all(path.read_text())
    executors = spec["deploymentSpec"]["executors"]
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    containers = {step.removeprefix("exec-"): executor["container"] for step, executor in executors.items()}
    return containers, {step.removeprefix("exec-"): pod for step, pod in pods.items()}


@pytest.fixture(autouse=True)
def commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "git_commit", lambda: COMMIT)


@pytest.fixture
def h800(tmp_path: Path) -> Compiled:
    return compile_profile(tmp_path / "pipeline.yaml", "h800")


def test_training_runs_on_the_h800s_and_nothing_else_can(h800: Compiled) -> None:
    containers, pods = h800
    for step, pod in pods.items():
        (term,) = pod["nodeAffinity"]  # a second one would be an alternative, not a further condition
        (product,) = term["matchExpressions"]
        assert product["key"] == PRODUCT
        if step in ("sft", "grpo"):
            assert (product["operator"], product["values"]) == ("In", ["NVIDIA-H800"])
            assert containers[step]["resources"]["accelerator"]["resourceCount"] == "8"
            assert [mount["mountPath"] for mount in pod["emptyDirMounts"]] == ["/tmp", "/dev/shm"]
        else:
            excluded = product["operator"] == "NotIn" and "NVIDIA-H800" in product["values"]
            assert excluded or "NVIDIA-H800" not in product["values"]


def test_every_pod_is_non_root_and_of_a_pinned_image(h800: Compiled) -> None:
    containers, pods = h800
    assert set(containers) == set(pods)
    for step, container in containers.items():
        assert container["image"].endswith(f":{COMMIT}")
        user = {"runAsUser": "1000", "runAsGroup": "0", "runAsNonRoot": True}
        assert pods[step]["securityContext"] == user


def test_secrets_and_settings_travel_by_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    monkeypatch.setenv("HF_TOKEN", "do-not-tell")
    changes = {
        "placement": {"config_maps": {"REGION": "site/region"}, "sft": {"env": {"OMP_NUM_THREADS": "2"}}}
    }
    containers, pods = compile_profile(tmp_path / "pipeline.yaml", "kind", changes)
    assert "do-not-tell" not in (tmp_path / "pipeline.yaml").read_text()
    for pod in pods.values():
        (secret, _) = pod["secretAsEnv"]
        assert secret["secretName"] == "mlpipeline-minio-artifact"
        assert secret["keyToEnv"] == [{"secretKey": "accesskey", "envVar": "AWS_ACCESS_KEY_ID"}]
        assert pod["configMapAsEnv"][0]["configMapName"] == "site"
    assert {"name": "OMP_NUM_THREADS", "value": "2"} in containers["sft"]["env"]


def test_the_first_step_sees_every_secret_that_a_later_one_needs(tmp_path: Path) -> None:
    changes = {"placement": {"base_model": {"secrets": {"HF_TOKEN": "hub/token"}}}}
    _, pods = compile_profile(tmp_path / "pipeline.yaml", "h800", changes)
    names = {entry["keyToEnv"][0]["envVar"] for entry in pods["window"]["secretAsEnv"]}
    assert names == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"}
    others = {entry["keyToEnv"][0]["envVar"] for entry in pods["sft"]["secretAsEnv"]}
    assert "HF_TOKEN" not in others


def test_a_queue_labels_a_timeout_and_retries_reach_the_pod(tmp_path: Path) -> None:
    section = {"queue": "gpu", "labels": {"team": "ranking"}, "timeout": 77, "retries": 2}
    path = tmp_path / "pipeline.yaml"
    _, pods = compile_profile(path, "kind", {"placement": {"retrieve": section}})
    pod = pods["retrieve"]
    assert pod["podMetadata"]["labels"] == {"team": "ranking", "kueue.x-k8s.io/queue-name": "gpu"}
    assert pod["activeDeadlineSeconds"] == "77"
    spec = next(yaml.safe_load_all(path.read_text()))
    assert spec["root"]["dag"]["tasks"]["retrieve"]["retryPolicy"]["maxRetryCount"] == 2


def test_only_who_is_to_be_notified_costs_an_exit_handler(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    changes = {"placement": {"notify": "chat/webhook"}}
    _, pods = compile_profile(path, "kind", changes)
    envs = {entry["keyToEnv"][0]["envVar"] for entry in pods["notify"]["secretAsEnv"]}
    assert envs == {"RECLLM_NOTIFY_URL"}
    spec = next(yaml.safe_load_all(path.read_text()))
    assert len(spec["root"]["dag"]["tasks"]) == 2
    compile_profile(path, "kind")
    assert "notify" not in path.read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"placement": {"images": {"ops": "recllm-r1/ops:latest"}}}, r"placement: images\.ops", id="latest"
        ),
        pytest.param(
            {"placement": {"sft": {"image": "own/trainer"}}},
            r"placement: sft\.image: 'own/trainer'",
            id="no tag",
        ),
        pytest.param(
            {"base_model": {"source": "owner/name", "revision": "main"}},
            r"base_model\.revision: 'main' can change",
            id="branch of the hub",
        ),
        pytest.param(
            {"retrieve": {"encoder": {"source": "owner/name"}}}, r"retrieve\.encoder\.revision", id="encoder"
        ),
        pytest.param({"register": {"tracking_uri": ""}}, r"register\.tracking_uri: empty", id="no registry"),
        pytest.param(
            {"placement": {"sft": {"gpus": 8}}}, r"placement\.sft: gpus and gpu_products", id="any GPU"
        ),
        pytest.param(
            {"placement": {"secrets": {"HF_TOKEN": "hf_abc"}}},
            r"placement\.secrets: HF_TOKEN: write NAME/KEY",
            id="a secret itself",
        ),
        pytest.param({"placement": {"sfft": {}}}, "unknown key 'sfft'", id="no such step"),
        pytest.param(
            {"retrieve": {"spark": {}, "models": ["popularity"], "candidates_from": "popularity"}},
            r"retrieve\.spark: .* no Spark",
            id="Spark in the trainer",
        ),
        pytest.param(
            {"placement": {"images": {"ops": "ops:nightly-20261126"}}},
            r"images\.ops: .* can change",
            id="a date",
        ),
        pytest.param(
            {"placement": {"images": {"ops": "r{commit}/ops:v1"}}},
            r"images\.ops: .* can change",
            id="no tag of it",
        ),
        pytest.param(
            {"placement": {"sft": {"memory": "16GB"}}}, r"sft\.memory: '16GB' is no quantity", id="GB"
        ),
        pytest.param({"placement": {"sft": {"cpu": "four"}}}, r"sft\.cpu: 'four' is no quantity", id="words"),
        pytest.param({"placement": {"sft": {"memory": "500m"}}}, r"memory: '500m' is no", id="milli-bytes"),
        pytest.param({"placement": {"sft": {"shm": "16K"}}}, r"shm: '16K' is no quantity", id="K"),
        pytest.param(
            {"placement": {"sft": {"cpu": "16Gi"}}}, r"cpu: '16Gi' is no quantity", id="bytes of CPU"
        ),
        pytest.param(
            {"placement": {"sft": {"timeout": 10**20}}}, r"sft\.timeout: must be below", id="for ever"
        ),
        pytest.param({"sft": {"max_examples": 10**400}}, "is not a finite number", id="400 digits"),
        pytest.param({"placement": {"sft": {"volumes": {"/tmp": "c"}}}}, "are taken", id="own /tmp"),
        pytest.param(
            {"placement": {"sft": {"volumes": {"/a": "one", "/b": "one"}}}}, "mounted at one path", id="twice"
        ),
        pytest.param({"placement": {"sft": {"volumes": {"/a": "a.b"}}}}, r"claim 'a\.b'", id="a claim's dot"),
        pytest.param(
            {"placement": {"sft": {"volumes": {"a": "c"}}}}, "no absolute path", id="relative mount"
        ),
        pytest.param(
            {"placement": {"root": "/pipelines"}}, r"root: '/pipelines' is neither", id="local root"
        ),
        pytest.param(
            {"placement": {"env": {"AWS_SECRET_ACCESS_KEY": "x"}}},
            "looks like a secret",
            id="a secret in env",
        ),
        pytest.param(
            {"placement": {"sft": {"tolerations": [{"key": ""}]}}}, r"tolerations\[0\]\.key", id="any taint"
        ),
        pytest.param(
            {"register": {"tracking_uri": "sqlite:///x.db"}}, "an MLflow server", id="a pod's own registry"
        ),
        pytest.param({"register": {"tracking_uri": "http://u:p@mlflow"}}, "holds a password", id="password"),
        pytest.param({"checkpoints": "/tmp/c"}, "is on no volume of the step window", id="a pod's own disk"),
        pytest.param(
            {
                "base_model": {"source": "/models/base", "random_weights": None},
                "placement": {"base_model": {"volumes": {"/models": "models"}}},
            },
            r"base_model\.source: '/models/base' is on no volume of the step window",
            id="a model that is not fingerprinted",
        ),
    ],
)
def test_a_profile_for_a_cluster_refuses_by_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        profile.load("kind", changes)


@pytest.mark.parametrize(
    ("commit", "message"),
    [("", "of no known commit"), (f"{COMMIT}-dirty", "uncommitted changes")],
)
def test_images_of_unknown_code_are_refused(
    commit: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "git_commit", lambda: commit)
    with pytest.raises(ConfigError, match=message):
        compile_profile(tmp_path / "pipeline.yaml", "kind")
    digest = f"recllm-r1/any@sha256:{'0' * 64}"
    images = {"placement": {"images": dict.fromkeys(("spark", "trainer", "ops"), digest)}}
    containers, _ = compile_profile(tmp_path / "pipeline.yaml", "kind", images)
    assert {container["image"] for container in containers.values()} == {digest}


def test_a_secret_is_not_part_of_its_error() -> None:
    with pytest.raises(ConfigError) as refused:
        profile.load("kind", {"placement": {"secrets": {"HF_TOKEN": "hf_abc"}}})
    assert "hf_abc" not in str(refused.value)


def test_variables_about_tokens_that_are_no_secrets_are_taken() -> None:
    env = {"TOKENIZERS_PARALLELISM": "false", "MAX_TOKENS": "8", "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/token"}
    placed = profile.load("kind", {"placement": {"env": env}}).placement
    assert placed and env.items() <= placed.env.items()

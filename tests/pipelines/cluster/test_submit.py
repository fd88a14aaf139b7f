"""Submitting: one version per compiled file, and nothing is uploaded before the checks."""

from typing import Any

import pytest

from components.shared.errors import ConfigError
from pipelines.cluster import submit
from pipelines.cluster.client import connect
from pipelines.profile import load

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECLLM_GIT_COMMIT", COMMIT)


def test_a_version_is_uploaded_once_and_another_file_gets_a_number(kubeflow: Any) -> None:
    client, profile = connect(kubeflow.endpoint, ""), load("kind")
    first = submit.upload(client, profile, "kind")
    again = submit.upload(client, profile, "kind")
    other = submit.upload(client, load("kind", {"sequences": {"as_of": "2026-11-01T00:00:00Z"}}), "kind")
    assert (first.name, again, other.name) == ("kind@0123456789ab", first, "kind@0123456789ab-2")
    uploads = [query for _, path, query in kubeflow.requests if path == "pipelines/upload_version"]
    assert [upload["name"] for upload in uploads] == ["kind-0123456789ab", "kind-0123456789ab-2"]
    run = submit.start(client, other, "s3://bucket/data")
    (stored,) = kubeflow.stored["runs"]
    assert stored["run_id"] == run and stored["display_name"].startswith(other.name)
    assert stored["pipeline_version_reference"]["pipeline_version_id"] == other.version_id
    assert stored["runtime_config"] == {"parameters": {"data": "s3://bucket/data"}}
    assert [len(kubeflow.stored[kind]) for kind in ("pipelines", "experiments")] == [1, 1]


@pytest.mark.parametrize(
    ("profile", "data", "message"),
    [
        pytest.param("tiny", "s3://b/d", "no `placement`", id="a local profile"),
        pytest.param("kind", "/home/me", "pods do not see it", id="a local folder"),
    ],
)
def test_what_no_pod_could_run_is_refused(profile: str, data: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        submit.check(load(profile), profile, data)


def test_data_below_a_volume_of_both_readers_is_left_to_the_first_task() -> None:
    steps = {step: {"volumes": {"/data": "claim"}} for step in ("window", "sequences")}
    submit.check(load("kind", {"placement": steps}), "kind", "/data/today")
    del steps["sequences"]
    with pytest.raises(ConfigError, match="`sequences` has none there"):
        submit.check(load("kind", {"placement": steps}), "kind", "/data/today")
    remote = {"sequences": {"spark": {"master": "k8s://https://kubernetes.default.svc"}}}
    with pytest.raises(ConfigError, match="mount no volume; give an s3:// URI"):
        submit.check(load("kind", remote), "kind", "/data/today")

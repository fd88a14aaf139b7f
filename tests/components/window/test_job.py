"""The window and the key of a run, settled on a real registry from real folders."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from components.shared.errors import ConfigError
from components.shared.tracking import mlflow_client, registry
from components.window.config import WindowConfig
from components.window.job import Window, run

FIRST, SECOND = "2026-11-26T14:30:00Z", "2026-11-27T14:30:00Z"


@pytest.fixture
def settle(config: WindowConfig, data: Path, tmp_path: Path) -> Any:
    def call(run_id: str, scheduled: str = "", **changes: Any) -> tuple[Window, str]:
        changed = dataclasses.replace(config, **changes)
        found = run(changed, str(data), scheduled, run_id, tmp_path / "page.html")
        return found, (tmp_path / "page.html").read_text()

    return call


def test_the_lineage_names_what_the_run_is_made_from(settle, data: Path, monkeypatch) -> None:
    monkeypatch.setenv("RECLLM_GIT_COMMIT", "c0ffee")
    found, page = settle("run-1", FIRST)
    assert found.as_of == FIRST
    lineage = found.lineage
    assert lineage["run_key"].startswith("profiles-tiny.yaml-20261126-143000-")
    assert lineage["git_commit"] == "c0ffee"
    assert lineage["prompt_version"] == "1"
    assert lineage["data"] == str(data)
    assert lineage["data_fingerprint"] == found.data_fingerprint != ""
    assert "run-1" not in json.dumps(lineage)
    assert found.base_model_fingerprint and found.encoder_fingerprint
    assert "New data" in page and lineage["run_key"] in page and "run-1" in page


def test_unchanged_data_keep_their_window_and_their_key(settle) -> None:
    first, _ = settle("run-1", FIRST)
    second, page = settle("run-2", SECOND)
    assert second == first
    assert "Data unchanged since run run-1 (" in page
    assert "which registered no version" in page


def test_a_registered_version_is_named(settle, config: WindowConfig) -> None:
    first, _ = settle("run-1", FIRST)
    client = mlflow_client.connect(config.tracking_uri)
    client.create_model_version("recllm-r1", "s3://x/model", tags={"run_key": first.lineage["run_key"]})
    _, page = settle("run-2", SECOND)
    assert "outputs are used again, nothing is trained" in page
    assert "recllm-r1 version 1 stays" in page


@pytest.mark.slow
def test_the_records_of_a_server_are_found(settle, mlflow_uri: str) -> None:
    first, _ = settle("run-1", FIRST, tracking_uri=mlflow_uri)
    second, page = settle("run-2", SECOND, tracking_uri=mlflow_uri)
    assert second == first
    assert "Data unchanged since run run-1 (" in page


def test_two_triggers_on_changed_data_give_two_windows_and_two_keys(settle, data: Path) -> None:
    first, _ = settle("run-1", FIRST)
    (data / "users.csv").write_text("user_id\nu1\nu2\n")
    second, page = settle("run-2", SECOND)
    assert second.as_of == SECOND
    assert second.data_fingerprint != first.data_fingerprint
    assert second.lineage["run_key"] != first.lineage["run_key"]
    assert "New data" in page


def test_other_settings_keep_the_window_and_change_the_key(settle) -> None:
    first, _ = settle("run-1", FIRST)
    second, page = settle("run-2", SECOND, settings="other")
    assert second.as_of == FIRST
    assert second.lineage["run_key"] != first.lineage["run_key"]
    assert "changed settings, code or models" in page


def test_a_repeated_task_of_the_same_run_finds_nothing_earlier(settle) -> None:
    first, _ = settle("run-1", FIRST)
    again, page = settle("run-1", FIRST)
    assert again == first
    assert "New data" in page


def test_a_fresh_run_has_a_window_and_a_key_of_its_own(settle) -> None:
    first, _ = settle("run-1", FIRST)
    fresh, page = settle("run-2", SECOND, fresh=True)
    assert fresh.as_of == SECOND
    assert "every step runs" in page
    local, _ = settle("run-3", fresh=True)
    other, _ = settle("run-4", fresh=True)
    keys = {found.lineage["run_key"] for found in (first, fresh, local, other)}
    assert len(keys) == 4


def test_a_given_end_wins_and_a_local_run_has_none(settle) -> None:
    local, page = settle("run-1")
    assert local.as_of == ""
    assert "-all-" in local.lineage["run_key"] and "no end" in page
    given, _ = settle("run-2", FIRST, as_of="2026-03-01")
    assert given.as_of == "2026-03-01T00:00:00Z"
    scheduled, _ = settle("run-3", FIRST)  # what a local run has seen without an end is no window
    assert scheduled.as_of == FIRST


def test_the_champion_is_named_by_what_it_was_registered_from(settle, config: WindowConfig) -> None:
    found, _ = settle("run-1")
    assert (found.champion_version, found.champion_fingerprint) == ("", "")
    client = mlflow_client.connect(config.tracking_uri)
    client.create_model_version("recllm-r1", "s3://x/model")
    client.set_registered_model_alias("recllm-r1", registry.CHAMPION, "1")
    found, _ = settle("run-2")
    assert found.champion_version == "1"
    assert len(found.champion_fingerprint) == 16


@pytest.mark.parametrize(
    ("scheduled", "changes", "message"),
    [
        pytest.param("{{$.pipeline_job_schedule_time}}", {}, "hands over {{$.pipeline_job", id="placeholder"),
        pytest.param("[[ScheduledTime]]", {}, "2.17 fills it in: upgrade it", id="old macro"),
        pytest.param(FIRST, {"experiment": "gone"}, "'gone' is deleted", id="deleted experiment"),
    ],
)
def test_what_ends_the_run(settle, config, scheduled: str, changes: dict, message: str) -> None:
    client = mlflow_client.connect(config.tracking_uri)
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(ConfigError) as caught:
        settle("run-1", scheduled, **changes)
    assert message in str(caught.value)


def test_a_faulty_end_is_refused_when_it_is_configured(config: WindowConfig) -> None:
    with pytest.raises(ValueError, match="as_of='soon': not an ISO 8601"):
        dataclasses.replace(config, as_of="soon")

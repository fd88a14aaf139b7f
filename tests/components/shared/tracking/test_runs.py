"""The runs of a pipeline run nest in one, named by its run key, and log into those of Kubeflow's plug-in."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from components.grpo.config import GrpoConfig
from components.shared.tracking import evaluation, mlflow_client
from components.shared.tracking.tracker import tracker
from components.window.history import History
from data_contracts.evaluation import EvaluationReport

KEY = "laptop-all-1"
LINEAGE = {"run_key": KEY, "data": "s3://logs/may", "data_fingerprint": "f00d"}


@pytest.fixture
def client(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "nightly")
    monkeypatch.setenv("RECLLM_PIPELINE_RUN", "run-1")
    return MlflowClient(tracking_uri)


@pytest.fixture
def experiment(client: MlflowClient) -> str:
    return mlflow_client.experiment_id(client, "nightly")


def begin(client: MlflowClient, experiment: str, run_id: str) -> None:
    """What the step `window` does."""
    history = History(client, experiment, run_id)
    history.begin("key of the data", "")
    history.complete("", KEY, LINEAGE)


def by_name(client: MlflowClient, experiment: str) -> dict[str, Run]:
    found = client.search_runs([experiment])
    named = {run.info.run_name: run for run in found}
    assert len(named) == len(found)
    return named


def train(step: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    with tracker(step, folder, GrpoConfig()) as tracking:
        tracking.log(1, {"loss": 0.5})


def evaluate(report: EvaluationReport, folder: Path) -> None:
    (folder / "users.parquet").write_bytes(b"a table")
    evaluation.try_log(report, folder / "users.parquet")


def test_steps_nest_in_the_run_named_by_the_key(client, experiment, make_report, tmp_path) -> None:
    begin(client, experiment, "run-1")
    for step in ("sft", "grpo"):
        train(step, tmp_path / step)
        assert by_name(client, experiment)[KEY].info.status == "RUNNING", "between the steps as well"
    evaluate(make_report(lineage=LINEAGE), tmp_path)
    evaluate(make_report(lineage=LINEAGE), tmp_path)  # once
    runs = by_name(client, experiment)
    assert set(runs) == {KEY, "sft", "grpo", "evaluate"}
    parent = runs.pop(KEY)
    assert "mlflow.parentRunId" not in parent.data.tags
    assert parent.info.status == "FINISHED"
    for run in runs.values():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.status == "FINISHED"
    for run in (parent, *runs.values()):
        (data,) = run.inputs.dataset_inputs
        assert (data.dataset.name, data.dataset.digest) == ("may", "f00d")
    assert runs["evaluate"].data.metrics["grpo/ndcg_at_10"] == pytest.approx(0.2)


def test_a_repeated_pipeline_run_nests_in_the_first_of_its_key(
    client, experiment, make_report, tmp_path, monkeypatch
) -> None:
    begin(client, experiment, "run-1")
    with pytest.raises(KeyboardInterrupt), tracker("sft", tmp_path, GrpoConfig()):
        raise KeyboardInterrupt  # the step is killed; the same command goes on
    assert by_name(client, experiment)[KEY].info.status == "FAILED"
    monkeypatch.setenv("RECLLM_PIPELINE_RUN", "run-2")
    begin(client, experiment, "run-2")
    train("sft", tmp_path)
    assert by_name(client, experiment)[KEY].info.status == "RUNNING"
    evaluate(make_report(lineage=LINEAGE), tmp_path)
    runs = by_name(client, experiment)
    parent = runs.pop(KEY)
    assert set(runs) == {"run-2", "sft", "evaluate"}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert {run.info.status for run in (parent, *runs.values())} == {"FINISHED"}


def test_steps_log_into_the_runs_that_the_plug_in_has_made(
    client, experiment, make_report, tmp_path, monkeypatch
) -> None:
    begin(client, experiment, "run-1")
    of_plugin = mlflow_client.experiment_id(client, "kubeflow")
    parent = client.create_run(of_plugin, run_name="a run of Kubeflow").info.run_id
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "nightly")
    tasks = {}
    for step in ("sft", "evaluate"):
        run = client.create_run(of_plugin, run_name=f"{step}-task", tags={"mlflow.parentRunId": parent})
        tasks[step] = run.info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", tasks["sft"])
    train("sft", tmp_path / "sft")
    monkeypatch.setenv("MLFLOW_RUN_ID", tasks["evaluate"])
    evaluate(make_report(lineage=LINEAGE), tmp_path)
    assert client.get_run(tasks["sft"]).data.metrics["loss"] == 0.5
    found = client.get_run(tasks["evaluate"])
    assert found.data.metrics["grpo/ndcg_at_10"] == pytest.approx(0.2)
    assert found.data.tags["mlflow.parentRunId"] == parent
    assert found.inputs.dataset_inputs[0].dataset.digest == "f00d"
    assert set(by_name(client, experiment)) == {KEY}, "no runs beside the injected ones"
    assert client.get_run(parent).info.status == "RUNNING", "the plug-in ends its own"


def test_the_record_of_a_run_under_the_plug_in_is_ended_at_once(client, experiment, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", client.create_run(experiment).info.run_id)
    begin(client, experiment, "run-1")
    assert by_name(client, experiment)[KEY].info.status == "FINISHED"


def test_a_server_that_is_away_costs_the_run_of_the_evaluation_alone(
    make_report, tmp_path, monkeypatch, caplog
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    evaluate(make_report(lineage=LINEAGE), tmp_path)
    assert "MLflow does not accept the evaluation (ConfigError: " in caplog.text

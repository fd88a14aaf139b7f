"""A training's figures in a real MLflow database, and a training that no MLflow trouble can stop."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.grpo.config import GrpoConfig, RewardWeights, VerlConfig
from components.shared.tracking import tracker as tracking

CONFIG = GrpoConfig(
    steps=7,
    reward=RewardWeights(business={"tests.rewards:own": 0.5}),
    verl=VerlConfig(overrides={"+trainer.x": "y"}),
)


@pytest.fixture
def client(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "nightly")
    monkeypatch.setenv("RECLLM_PIPELINE_RUN", "laptop-1")
    return MlflowClient(tracking_uri)


def runs(client: MlflowClient) -> list:
    return client.search_runs([client.get_experiment_by_name("nightly").experiment_id])


def test_a_resumed_training_goes_on_with_its_run(client: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), tracking.tracker("grpo", tmp_path, CONFIG) as tracker:
        tracker.log(0, {"valid_ndcg@10": 0.3})
        tracker.log(1, {"reward": 0.5, "kl": 0.0})
        (run,) = runs(client)
        assert (run.info.status, run.data.metrics["reward"]) == ("RUNNING", 0.5)
        raise KeyboardInterrupt
    assert runs(client)[0].info.status == "FAILED"
    with tracking.tracker("grpo", tmp_path, CONFIG) as tracker:
        tracker.log(2, {"reward": 0.75})
    (run,) = runs(client)
    assert run.info.status == "FINISHED"
    assert (run.data.tags["step"], run.data.tags["pipeline_run"]) == ("grpo", "laptop-1")
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "reward")] == [
        (1, 0.5),
        (2, 0.75),
    ]
    assert run.data.metrics["valid_ndcg_at_10"] == 0.3
    assert run.data.params["reward.business.tests.rewards_own"] == "0.5"
    assert (run.data.params["steps"], run.data.params["engine"]) == ("7", "local")
    assert run.data.params["verl.overrides._trainer.x"] == "y"


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "ftp://nowhere", "sqlite:////proc/none/mlflow.db"])
def test_a_server_that_is_away_costs_figures_and_nothing_else(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with tracking.tracker("sft", tmp_path, CONFIG) as tracker:
        tracker.log(1, {"loss": 1.0})
    assert "MLflow does not accept the figures (ConfigError: " in caplog.text


def test_settings_that_mlflow_refuses_cost_no_figures(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log_batch = MlflowClient.log_batch

    def picky(self: MlflowClient, run_id: str, **options: object) -> None:
        if "params" in options:
            raise ValueError("not these")
        log_batch(self, run_id, **options)

    monkeypatch.setattr(MlflowClient, "log_batch", picky)
    with tracking.tracker("sft", tmp_path, CONFIG) as tracker:
        tracker.log(1, {"loss": 1.0})
    (run,) = runs(client)
    assert (run.info.status, run.data.metrics["loss"]) == ("FINISHED", 1.0)
    assert "not these" in caplog.text


def test_a_server_that_goes_away_is_told_of_and_tried_again_later(
    client, tmp_path: Path, caplog, monkeypatch
) -> None:
    def gone(*args, **options):
        raise ConnectionError("gone")

    with tracking.tracker("sft", tmp_path, CONFIG) as tracker:
        monkeypatch.setattr(MlflowClient, "log_batch", gone)
        tracker.log(1, {"loss": 1.0})
        tracker.log(2, {"loss": 2.0})
        monkeypatch.undo()
        monkeypatch.setattr(tracking.time, "monotonic", lambda: 1e12)
        tracker.log(3, {"loss": 3.0})
    (run,) = runs(client)
    assert (run.info.status, run.data.metrics["loss"]) == ("FINISHED", 3.0), "tried again later"
    assert caplog.text.count("MLflow does not") == 1


def test_without_a_tracking_uri_nothing_is_imported_or_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with tracking.tracker("sft", tmp_path, CONFIG) as tracker:
        tracker.log(1, {"loss": 1.0})
    assert not any(tmp_path.iterdir())

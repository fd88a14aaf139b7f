"""A registry with its artifacts is moved or copied: files are found where they lie now."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from components.shared.tracking.mlflow_client import connect, experiment_id


@pytest.fixture
def runs(fresh_database: Path, tmp_path: Path) -> Path:
    """A runs folder with one version of the model `m`, whose file says "weights"."""
    folder = tmp_path / "before" / "runs"
    folder.mkdir(parents=True)
    shutil.copyfile(fresh_database, folder / "mlflow.db")
    client = connect(f"sqlite:///{folder}/mlflow.db")
    run = client.create_run(experiment_id(client, "nightly"))
    client.log_text(run.info.run_id, "weights", "model/file.txt")
    client.create_registered_model("m")
    client.create_model_version("m", f"{run.info.artifact_uri}/model", run.info.run_id)
    client.create_model_version("m", "file:///elsewhere/mlartifacts-of-mine/model")
    return folder


def weights(client: MlflowClient, to: Path) -> str:
    source = client.get_model_version_download_uri("m", "1")
    to.mkdir()
    found = download_artifacts(artifact_uri=f"{source}/file.txt", dst_path=str(to))
    return Path(found).read_text()


def places(folder: Path) -> set[str]:
    client = connect(f"sqlite:///{folder}/mlflow.db")
    run = client.search_runs([experiment_id(client, "nightly")])[0]
    return {run.info.artifact_uri, client.get_model_version("m", "1").source}


def test_a_moved_folder_keeps_its_versions_and_takes_new_files(runs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "after ü" / "mine"
    moved.parent.mkdir()
    shutil.move(runs, moved)
    client = connect(f"sqlite:///{moved}/mlflow.db")
    assert weights(client, tmp_path / "download") == "weights"
    assert client.get_model_version("m", "2").source == "file:///elsewhere/mlartifacts-of-mine/model"
    run = client.create_run(experiment_id(client, "nightly"))
    client.log_text(run.info.run_id, "more", "new.txt")
    assert len(list(moved.rglob("new.txt"))) == 1
    assert not runs.exists()


def test_a_copy_reads_its_own_files_and_leaves_the_original(runs: Path, tmp_path: Path) -> None:
    before = places(runs)
    shutil.copytree(runs, tmp_path / "copy")
    copied = connect(f"sqlite:///{tmp_path}/copy/mlflow.db")
    shutil.rmtree(runs / "mlartifacts")
    assert weights(copied, tmp_path / "download") == "weights"
    assert places(runs) == before
    assert all(place.startswith((tmp_path / "copy").as_uri()) for place in places(tmp_path / "copy"))


def test_a_database_away_from_its_artifacts_still_points_to_them(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    shutil.copyfile(runs / "mlflow.db", tmp_path / "alone" / "mlflow.db")
    assert places(tmp_path / "alone") == places(runs)

"""Checkpoint directories in a real S3 server: killed pushes, two machines, a store that refuses."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.sft.config import SftConfig
from components.shared.artifacts import checkpoint_store, checkpoints, storage
from components.shared.artifacts.checkpoint_store import opened, push
from components.shared.errors import DataError
from components.shared.tracking.tracker import tracker
from tests.components.shared.artifacts.s3_server import NO_ADMIN, serving

URI = "minio://bucket/checkpoints/sft-1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with serving(tmp_path_factory.mktemp("s3")) as running:
        running.upload(tmp_path_factory.mktemp("nothing"), "bucket", "")
        yield running


@pytest.fixture(autouse=True)
def environment(server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    storage.remove(URI)


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def read(folder: Path) -> dict[str, str]:
    """Return the files below the folder but for hidden ones."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def stored() -> list[str]:
    return [Path(file.path).name for file in storage.Folder.at(URI).files()]


def left_by_a_killed_machine(**files: str) -> None:
    with pytest.raises(InterruptedError), opened(URI) as folder:
        write(folder, **files)
        push(folder)
        write(folder, late="never pushed")
        raise InterruptedError


def test_the_next_machine_has_the_last_push_and_success_removes_it() -> None:
    left_by_a_killed_machine(step__weights="1", run="a")
    with opened(URI) as folder:
        assert folder.name == "sft-1"
        assert read(folder) == {"step/weights": "1", "run": "a"}
    with opened(URI) as folder:
        assert read(folder) == {}


def test_a_push_sends_what_is_new_and_removes_what_is_gone() -> None:
    with pytest.raises(InterruptedError), opened(URI) as folder:
        write(folder, one="1", two__a="a", two__b="b", **{".one.partial": "half"})
        push(folder)
        first = stored()
        assert len(first) == 4, "three files and the marker"
        push(folder)
        assert stored() == first
        (folder / "two/a").unlink()
        write(folder, one="2", attempt="passing")
        push(folder, skip="attempt*")
        assert len(stored()) == 3
        assert len(set(stored()) & set(first)) == 1, "two/b has not changed"
        raise InterruptedError
    with opened(URI) as folder:
        assert read(folder) == {"one": "2", "two/b": "b"}


def test_the_next_machine_continues_the_mlflow_run(
    tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known from the start, not only from the first checkpoint."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    for _ in range(2):
        with pytest.raises(InterruptedError), opened(URI) as folder, tracker("sft", folder, SftConfig()):
            raise InterruptedError
    client = MlflowClient(tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("recllm-r1").experiment_id])
    assert run.info.run_name == "sft"


def push_and_die(uploads: int) -> None:
    """Push a second state; die before the upload number `uploads`."""

    def upload(file: Path, uri: str) -> None:
        nonlocal uploads
        uploads -= 1
        if not uploads:
            os.kill(os.getpid(), signal.SIGKILL)
        storage.upload(file, uri)

    with opened(URI) as folder:
        write(folder, weights="2", optimizer="2")
        checkpoint_store.upload = upload
        push(folder)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("uploads", "state"),
    [
        pytest.param(1, "1", id="before the weights"),
        pytest.param(2, "1", id="before the optimizer"),
        pytest.param(3, "1", id="before the marker"),
        pytest.param(4, "2", id="after the marker"),
    ],
)
def test_a_killed_push_leaves_the_state_before_it(uploads: int, state: str) -> None:
    left_by_a_killed_machine(weights="1", optimizer="1")
    process = multiprocessing.get_context("spawn").Process(target=push_and_die, args=(uploads,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(InterruptedError), opened(URI) as folder:
        assert read(folder) == {"weights": state, "optimizer": state}
        assert len(stored()) == 3, "what the killed push left is removed"
        raise InterruptedError


def test_two_machines_in_the_same_training_leave_one_whole_state() -> None:
    with pytest.raises(InterruptedError), opened(URI) as old:
        write(old, weights="1", run="a")
        push(old)
        with pytest.raises(InterruptedError), opened(URI) as new:
            write(new, weights="2")
            push(new)
            write(old, weights="3")
            push(old)  # names objects that `new` has removed
            raise InterruptedError
        with pytest.raises(InterruptedError), opened(URI) as last:
            assert read(last) == {"weights": "2", "run": "a"}
            raise InterruptedError
        raise InterruptedError


@pytest.mark.parametrize(
    ("root", "variable", "value", "message"),
    [
        ("s3://missing/checkpoints", "AWS_ACCESS_KEY_ID", NO_ADMIN, "missing/.*does the bucket exist"),
        ("s3://bucket/checkpoints", "AWS_SECRET_ACCESS_KEY", "wrong", "cannot be written .*AWS_SECRET_"),
    ],
)
def test_a_store_that_refuses_is_told_at_the_start(
    root: str, variable: str, value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(DataError, match=message), checkpoints.directory(root, "sft", SftConfig(), tmp_path):
        pytest.fail("the training began")


def test_a_store_that_fails_later_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="cannot be written"), opened(URI) as folder:
        write(folder, weights="1")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "revoked")
        push(folder)

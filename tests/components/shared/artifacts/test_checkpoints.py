"""Checkpoints: one place for each training, held by one process, gone when the training is done."""

import fcntl
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from components.sft.config import SftConfig
from components.shared.artifacts import checkpoints, fingerprint
from components.shared.errors import ConfigError, TrainingError


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "rows").write_text("1")
    return folder


def test_a_place_outlives_a_failure_and_goes_with_success(tmp_path: Path, inputs: Path) -> None:
    root = str(tmp_path / "checkpoints")
    with pytest.raises(RuntimeError), checkpoints.directory(root, "sft", SftConfig(), inputs) as first:
        (first / "state").write_text("half")
        raise RuntimeError
    with checkpoints.directory(root, "sft", SftConfig(), inputs) as again:
        assert again == first and (again / "state").read_text() == "half"
    assert list(Path(root).iterdir()) == []


def test_other_data_or_settings_have_another_place(tmp_path: Path, inputs: Path) -> None:
    root, places = str(tmp_path / "checkpoints"), []
    for config, rows in ((SftConfig(), "1"), (SftConfig(epochs=2), "1"), (SftConfig(), "2")):
        (inputs / "rows").write_text(rows)
        with checkpoints.directory(root, "sft", config, inputs) as place:
            places.append(place)
    assert len(set(places)) == 3


def test_two_processes_never_train_into_one_place(tmp_path: Path, inputs: Path) -> None:
    root = str(tmp_path / "checkpoints")
    with (
        checkpoints.directory(root, "sft", SftConfig(), inputs),
        pytest.raises(TrainingError, match="another process runs this training"),
        checkpoints.directory(root, "sft", SftConfig(), inputs),
    ):
        pass


def test_a_removal_that_is_cut_short_leaves_no_half_to_go_on_from(
    tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(tmp_path / "checkpoints")

    def cut(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        monkeypatch.context() as patch,
        checkpoints.directory(root, "sft", SftConfig(), inputs) as first,
    ):
        (first / "state").write_text("the half that was not removed")
        patch.setattr(shutil, "rmtree", cut)
    with checkpoints.directory(root, "sft", SftConfig(), inputs) as again:
        assert not any(again.iterdir())
    assert list(Path(root).iterdir()) == []


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path, inputs: Path) -> None:
    root = str(tmp_path / "checkpoints")
    with pytest.raises(RuntimeError), checkpoints.directory(root, "grpo", SftConfig(), inputs) as first:
        (first / "latest.pt").write_text("whole")
        (first / ".latest.pt.partial").write_text("half")
        (first / ".best-2.partial").mkdir()
        (first / ".best-2.lock").touch()
        raise RuntimeError
    with checkpoints.directory(root, "grpo", SftConfig(), inputs) as again:
        assert [path.name for path in again.iterdir()] == ["latest.pt"]


def trainers_checkpoint(folder: Path) -> Path:
    """Write what Trainer writes, as far as it is looked at."""
    folder.mkdir()
    save_file({"weights": torch.ones(100)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"state": torch.ones(100)}, folder / name)
    (folder / "trainer_state.json").write_text('{"global_step": 1}')
    return folder


@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]
)
@pytest.mark.parametrize("fault", ["truncated", "missing"])
def test_only_the_newest_whole_checkpoint_of_trainer_stays(
    tmp_path: Path, file: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert checkpoints.latest_trainer_checkpoint(tmp_path) is None
    for step in (2, 9):
        trainers_checkpoint(tmp_path / f"checkpoint-{step}")
    damaged = trainers_checkpoint(tmp_path / "checkpoint-10") / file
    if fault == "missing":
        damaged.unlink()
    else:
        damaged.write_bytes(damaged.read_bytes()[:-1])
    (tmp_path / "checkpoint-mine").mkdir()
    (tmp_path / "checkpoint-11").write_text("no folder")
    assert checkpoints.latest_trainer_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"checkpoint-9", "checkpoint-mine", "checkpoint-11"}
    assert caplog.messages == [f"{tmp_path / 'checkpoint-10'} is corrupt and is removed"]


def test_code_of_its_own_that_changed_begins_anew(
    tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    places = []
    for file in ("components/grpo/rewards.py", "components/evaluate/page.py", "components/shared/answer.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("from components.shared import answer")
        with checkpoints.directory(str(tmp_path / "checkpoints"), "grpo", SftConfig(), inputs) as place:
            places.append(place)
    assert places[0] == places[1] != places[2]


def test_a_place_that_cannot_be_is_told(tmp_path: Path, inputs: Path) -> None:
    (tmp_path / "file").write_text("")
    for root, message in ((f"{tmp_path}/file", "can be written to"), ("gs://bucket/x", "must be a folder")):
        with (
            pytest.raises(ConfigError, match=message),
            checkpoints.directory(root, "sft", SftConfig(), inputs),
        ):
            pass


def test_a_lock_that_its_holder_has_just_removed_is_taken_anew(
    tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, real, locked = tmp_path / "checkpoints", fcntl.flock, []

    def flock(file: int, flags: int) -> None:
        if not locked:
            next(root.glob("*.lock")).unlink()
        locked.append(flags)
        real(file, flags)

    monkeypatch.setattr(fcntl, "flock", flock)
    with checkpoints.directory(str(root), "sft", SftConfig(), inputs) as place:
        assert len(locked) == 2 and place.with_suffix(".lock").is_file()

"""Checkpoints: one place for each training, held by one process, gone when the training is done."""

from pathlib import Path

import pytest

from components.sft.config import SftConfig
from components.shared import checkpoints
from components.shared.errors import TrainingError


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "rows").write_text("1")
    return folder


def test_a_place_outlives_a_failure_and_goes_with_success(tmp_path: Path, inputs: Path) -> None:
    root = str(tmp_path / "checkpoints")
    with pytest.raises(RuntimeError), checkpoints.place(root, "sft", SftConfig(), inputs) as first:
        (first / "state").write_text("half")
        raise RuntimeError
    with checkpoints.place(root, "sft", SftConfig(), inputs) as again:
        assert again == first and (again / "state").read_text() == "half"
    assert list(Path(root).iterdir()) == []


def test_other_data_or_settings_have_another_place(tmp_path: Path, inputs: Path) -> None:
    root, places = str(tmp_path / "checkpoints"), []
    for config, rows in ((SftConfig(), "1"), (SftConfig(epochs=2), "1"), (SftConfig(), "2")):
        (inputs / "rows").write_text(rows)
        with checkpoints.place(root, "sft", config, inputs) as place:
            places.append(place)
    assert len(set(places)) == 3


def test_two_processes_never_train_into_one_place(tmp_path: Path, inputs: Path) -> None:
    root = str(tmp_path / "checkpoints")
    with (
        checkpoints.place(root, "sft", SftConfig(), inputs),
        pytest.raises(TrainingError, match="another process is at this very training"),
        checkpoints.place(root, "sft", SftConfig(), inputs),
    ):
        pass

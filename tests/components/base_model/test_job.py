"""Bringing a base model: from a folder as it is, and refused with its name where there is none."""

import importlib.metadata
from pathlib import Path

import pytest

from components.base_model import job
from components.base_model.config import BaseModelConfig
from components.base_model.job import run
from components.shared.errors import ModelError


def test_a_folder_comes_over_whole_and_stays_as_it_was(tiny_model_folder: Path, tmp_path: Path) -> None:
    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    before = contents(tiny_model_folder)
    run(BaseModelConfig(source=str(tiny_model_folder)), tmp_path / "model")
    assert contents(tmp_path / "model") == before
    (tmp_path / "model" / "config.json").write_text("{}")
    assert contents(tiny_model_folder) == before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("./nowhere", r"base_model\.source: \./nowhere: no such folder", id="no folder"),
        pytest.param("bundled:gpt", "bundled:gpt is unknown; there is smollm2-135m", id="unknown bundle"),
    ],
)
def test_a_model_that_is_not_there_is_named(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        run(BaseModelConfig(source=source), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_can_run_code_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "pickled"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"no \*\.safetensors file; other weight formats can run code"):
        run(BaseModelConfig(source=str(source)), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_another_version_of_the_wheel_is_converted_anew(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(job, "_convert", lambda gguf, target: (target / "config.json").write_text("{}"))
    first = job.bundled_folder("smollm2-135m")
    assert job.bundled_folder("smollm2-135m") == first
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "9.9")
    assert job.bundled_folder("smollm2-135m") not in (first, None)
    assert len(list((tmp_path / "recllm-r1" / "models").glob("*/config.json"))) == 2

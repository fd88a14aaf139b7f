"""Versions that one process loads run their own code, not that of the first or of the checkout."""

import shutil
from pathlib import Path

import mlflow
import pytest

from components.register import packaging
from components.register.packaging import EXAMPLE
from components.shared.prompting import render
from components.shared.prompting.request import read_request
from components.shared.prompting.settings import ServingConfig

WORDS = "Recent activity, oldest first"


def build(model: Path, served: Path, folder: Path) -> Path:
    folder.mkdir()
    return packaging.build(
        {"model": model, "retriever": served}, ServingConfig(dtype="float32", max_new_tokens=1), folder
    )


def prompt_of(loaded: mlflow.pyfunc.PyFuncModel) -> str:
    (row,) = EXAMPLE.to_dict(orient="records")
    return "\n".join(
        message["content"]
        for message in loaded.unwrap_python_model()._asked(0, read_request(row, "row 0")).messages
    )


def test_two_versions_in_one_process_prompt_each_in_its_own_words(
    tiny_model_folder: Path, served_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(tiny_model_folder, served_folder, tmp_path / "first")
    for package in ("components", "data_contracts"):
        shutil.copytree(packaging._ROOT / package, tmp_path / "changed" / package)
    changed = tmp_path / "changed" / "components" / "shared" / "prompting" / "render.py"
    text = changed.read_text(encoding="utf-8")
    assert WORDS in text
    changed.write_text(text.replace(WORDS, "Worst last"), encoding="utf-8")
    monkeypatch.setattr(packaging, "_ROOT", tmp_path / "changed")
    second = build(tiny_model_folder, served_folder, tmp_path / "second")
    monkeypatch.setattr(render, "messages", None)  # this process's own is not used
    loaded = [mlflow.pyfunc.load_model(str(path)) for path in (first, second, first)]
    texts = [prompt_of(model) for model in loaded]
    assert [WORDS in text for text in texts] == [True, False, True]
    assert texts[1] == texts[0].replace(WORDS, "Worst last")


def test_settings_that_are_none_are_refused_when_the_version_is_loaded(
    tiny_model_folder: Path, served_folder: Path, tmp_path: Path
) -> None:
    built = build(tiny_model_folder, served_folder, tmp_path / "version")
    with pytest.raises(Exception, match=r"model_config\.answer: 'score' is not one of"):
        mlflow.pyfunc.load_model(str(built), model_config={"answer": "score"})

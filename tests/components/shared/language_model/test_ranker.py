"""The weights of model and retriever: recovered from labels drawn by them, and kept with the model."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from components.shared.errors import ModelError
from components.shared.language_model.load import load
from components.shared.language_model.ranker import Ranker, target_shares

GENERATOR = np.random.default_rng(0)


def drawn(scale: float, fuse: float, prompts: int = 4000) -> tuple[list, list, list]:
    model, retriever = (GENERATOR.normal(size=(prompts, 8)) * width for width in (5.0, 1.0))
    noise = GENERATOR.gumbel(size=model.shape)
    labels = (scale * model + fuse * retriever + noise).argmax(1)
    return model.tolist(), retriever.tolist(), np.eye(8)[labels].tolist()


@pytest.mark.parametrize(("scale", "fuse"), [(0.2, 1.0), (0.0, 1.0), (0.3, 0.0)])
def test_the_weights_that_drew_the_labels_are_found(scale: float, fuse: float) -> None:
    found = Ranker("title_likelihood").fitted(*drawn(scale, fuse))
    assert (found.scale, found.fuse) == pytest.approx((scale, fuse), abs=0.06)


def test_what_speaks_against_the_label_gets_no_weight() -> None:
    model, retriever, labels = drawn(0.3, 1.0)
    found = Ranker("label_logits").fitted([[-score for score in row] for row in model], retriever, labels)
    assert found.scale == 0.0 and found.fuse > 0


def test_without_prompts_or_differences_the_retriever_decides() -> None:
    assert Ranker("label_logits").fitted([], [], []) == Ranker("label_logits", 0.0, 1.0)
    found = Ranker("label_logits").fitted([[2.0, 2.0]], [[1.0, 0.0]], [[1.0, 0.0]])
    assert found.scale == 0.0 and found.fuse > 0


def test_a_saved_model_says_how_it_ranks(tiny_model_folder: Path, tmp_path: Path) -> None:
    assert Ranker.read(tiny_model_folder) == Ranker()
    model = load(tiny_model_folder).model
    Ranker("title_likelihood", 0.1, 0.9).write(model)
    model.save_pretrained(tmp_path)
    assert Ranker.read(tmp_path) == Ranker("title_likelihood", 0.1, 0.9)
    assert json.loads((tmp_path / "config.json").read_text())["ranker"]["fuse"] == 0.9


def test_shares_follow_the_engagement() -> None:
    row = SimpleNamespace(labels=[3, 1], candidates=list("abcd"), gains={"c": 3.0, "a": 1.0}, teacher=None)
    assert target_shares(row) == [0.25, 0.0, 0.75, 0.0]
    row.gains = {"c": 0.0, "a": 0.0}
    assert target_shares(row) == [0.5, 0.0, 0.5, 0.0]


def test_a_teachers_shares_are_the_softmax_of_its_scores() -> None:
    row = SimpleNamespace(labels=[], teacher=[1000.0, 1000.0 + math.log(3.0)])
    assert target_shares(row) == pytest.approx([0.25, 0.75])


def test_a_ranker_of_another_version_of_the_project_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"ranker": {"answers": "by_vote", "jury": 12}}))
    with pytest.raises(ModelError, match=r"config\.json: its 'ranker' is of another version of the project"):
        Ranker.read(tmp_path)

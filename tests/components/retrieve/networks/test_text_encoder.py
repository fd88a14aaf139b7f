import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from components.retrieve.config import RetrieveConfig
from components.retrieve.model_config import ContentConfig, EncoderConfig
from components.retrieve.models import factory as models
from components.retrieve.models.factory import load_or_compute
from components.retrieve.networks import text_encoder as text
from components.retrieve.tables import load
from components.shared.errors import ModelError

CPU = torch.device("cpu")
TEXTS = ["Rose hand cream", "A cordless drill", "Lotion for dry hands, roses", "", "Drill bits for steel"]


def test_texts_alike_lie_close() -> None:
    vectors = text.encode(TEXTS, EncoderConfig(), CPU)
    assert vectors.shape == (5, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    near = vectors @ vectors.T - 2 * np.eye(5)
    assert near[0].argmax() == 2
    assert near[4].argmax() == 1


def test_company_and_batches_do_not_change_a_vector() -> None:
    together = text.encode(TEXTS, EncoderConfig(), CPU)
    small = text.encode(TEXTS, EncoderConfig(batch_size=1), CPU)
    assert together == pytest.approx(small, abs=1e-5)


def test_a_text_longer_than_the_encoder_reads_is_cut() -> None:
    one, other = text.encode(["drill " * 900, "drill " * 1000], EncoderConfig(max_tokens=16), CPU)
    assert one == pytest.approx(other, abs=1e-6)


def test_vectors_are_made_once_and_anew_from_a_damaged_file(tmp_path, caplog) -> None:
    saved = tmp_path / "vectors.npz"
    first = text.encode(TEXTS, EncoderConfig(), CPU)
    assert np.array_equal(load_or_compute(saved, lambda: first), first)
    assert np.array_equal(load_or_compute(saved, lambda: pytest.fail("computed again")), first)
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.npz"]
    whole = saved.read_bytes()
    other = bytearray(whole)
    other[len(whole) // 2] ^= 1
    for damaged in (whole[:-10], b"", bytes(other)):
        saved.write_bytes(damaged)
        assert np.array_equal(load_or_compute(saved, lambda: first), first)
    assert caplog.text.count("vectors.npz cannot be used") == 3


def test_more_tokens_than_the_encoder_reads_are_refused() -> None:
    with pytest.raises(ModelError, match=r"max_tokens is 9999, but .* reads 512 at most"):
        text.encode(TEXTS, EncoderConfig(max_tokens=9999), CPU)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("bundled:bert", "bundled:bert is unknown", id="unknown wheel"),
        pytest.param("/nowhere/encoder", "cannot be loaded", id="no folder"),
    ],
)
def test_an_encoder_that_is_not_there_is_named(source, message) -> None:
    with pytest.raises(ModelError, match=message):
        text.encode(TEXTS, EncoderConfig(source=source), CPU)


def test_an_encoder_in_a_folder_must_be_safetensors(tmp_path) -> None:
    bundled = Path(text.encoder_source("bundled:all-minilm-l6-v2"))
    shutil.copytree(bundled, tmp_path / "encoder")
    source = EncoderConfig(source=str(tmp_path / "encoder"))
    assert text.encode(TEXTS[:1], source, CPU).shape == (1, 384)
    (tmp_path / "encoder/model.safetensors").rename(tmp_path / "encoder/pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded"):
        text.encode(TEXTS[:1], source, CPU)


def test_content_finds_a_new_item_by_its_title(write_tables, tmp_path) -> None:
    catalogue = ["rose hand cream", "cordless drill", "lotion for hands", "drill bits"]
    inputs = write_tables({"u": ["rose hand cream", "cordless drill", "lotion for hands"]}, catalogue)
    data = load(inputs["sequences"], inputs["catalogue"])
    config = dataclasses.replace(RetrieveConfig(), content=ContentConfig(by="text"))
    model = models.content(config, data, data.train(), tmp_path)
    best = model.recommend(data.queries("valid"), 2).items[0]  # asked after the cream alone
    assert data.item_ids[best[0]] == "lotion for hands"
    best = model.recommend(data.queries("test"), 1).items[0]  # … and the drill
    assert data.item_ids[best[0]] == "lotion for hands" or data.item_ids[best[0]] == "drill bits"


def test_every_item_has_a_text(write_tables) -> None:
    inputs = write_tables({"u": ["x", "", "z"]}, tags={"x": ["a", "b"]})  # a title is its item's id here
    texts = load(inputs["sequences"], inputs["catalogue"]).texts.to_pylist()
    assert texts == ["", "x. a, b", "z"]


def test_a_text_holds_the_parts_that_are_asked_for(write_tables) -> None:
    inputs = write_tables({"u": ["x", "", "z"]}, tags={"x": ["a", "b"]}, brands={"x": "acme", "z": "mark"})

    def texts(*parts: str) -> list[str]:
        return load(inputs["sequences"], inputs["catalogue"], text_parts=parts).texts.to_pylist()

    assert texts("title") == ["", "x", "z"]
    assert texts("title", "brand") == ["", "x. acme", "z. mark"]
    assert texts("tags", "brand") == ["", "a, b. acme", "mark"]

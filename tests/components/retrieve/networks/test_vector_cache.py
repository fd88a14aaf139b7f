"""What an encoder is asked to read over several runs, with folders and a real S3 server."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from components.retrieve.config import RetrieveConfig
from components.retrieve.job import run
from components.retrieve.model_config import ContentConfig, EncoderConfig
from components.retrieve.models import factory
from components.retrieve.networks.vector_cache import FILE, FOLDER, shared, vectors_of
from tests.components.shared.artifacts.s3_server import serving

CONFIG = RetrieveConfig(
    models=("content",), candidates_from="content", num_candidates=3, content=ContentConfig(by="text")
)


class Encoder:
    """Stands in for the sentence encoder and notes what it reads."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, texts: Sequence[str], *_, **__) -> np.ndarray:
        self.read += [str(text) for text in texts]
        return np.array([[len(str(text)), 1.0] for text in texts], np.float32).reshape(-1, 2)


@pytest.fixture(params=["folder", "s3"])
def root(request, tmp_path, monkeypatch) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "checkpoints")
        return
    (tmp_path / "nothing").mkdir()
    (tmp_path / "s3").mkdir()
    with serving(tmp_path / "s3") as server:
        server.upload(tmp_path / "nothing", "bucket", "")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield "s3://bucket/checkpoints"


def test_a_later_run_reads_only_new_texts(root, tmp_path) -> None:
    encoder = Encoder()

    def asked(name: str, texts: list[str], config: EncoderConfig, fingerprint: str = "f") -> list[str]:
        encoder.read.clear()
        (tmp_path / name).mkdir()
        with shared(root, config, fingerprint, tmp_path / name):
            for _ in range(2):  # twice in one run, as for several models
                vectors = vectors_of(texts, tmp_path / name / FILE, encoder)
                assert vectors[:, 0].tolist() == [len(text) for text in texts]
        return [*encoder.read]

    config = EncoderConfig()
    assert asked("first", ["soap", "a comb", "soap"], config) == ["soap", "a comb", "soap"]
    assert asked("same", ["a comb", "soap"], config) == []
    assert asked("changed", ["a wide comb", "soap"], config) == ["a wide comb"]
    assert asked("other length", ["soap"], dataclasses.replace(config, max_tokens=9)) == ["soap"]
    assert asked("other files", ["soap"], config, "g") == ["soap"]
    assert asked("back", ["a wide comb", "soap"], config) == []


def test_the_step_encodes_a_catalogue_once(write_tables, ring, outputs, tmp_path, monkeypatch) -> None:
    encoder, root = Encoder(), tmp_path / "checkpoints"
    monkeypatch.setattr(factory, "encode", encoder)

    def report(name: str, seed: int, **tables: dict) -> int:
        encoder.read.clear()
        inputs = write_tables(ring, name=name, **tables)
        run(dataclasses.replace(CONFIG, seed=seed), **inputs, **outputs, checkpoints=str(root))
        return len(encoder.read)

    assert report("first", 0) == 60
    assert report("another seed", 1) == 0
    assert report("a changed tag", 1, tags={"i0003": ["shoes"]}) == 1
    assert len([*(root / FOLDER).glob("*.npz")]) == 1


def test_without_a_place_for_checkpoints_nothing_outlives_the_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with shared("", EncoderConfig(), "f", tmp_path / "run"):
        vectors_of(["soap"], tmp_path / "run" / FILE, Encoder())
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [FILE]


def test_vectors_in_use_are_read_once(tmp_path) -> None:
    encoder, file = Encoder(), tmp_path / FILE
    first = vectors_of(["soap", "comb"], file, encoder)
    assert vectors_of(["soap", "comb"], file, encoder) is first
    other = vectors_of(["comb", "soap"], file, encoder)
    assert np.array_equal(other, first[::-1])
    copied = first.copy()
    del first, other
    assert np.array_equal(vectors_of(["soap", "comb"], file, encoder), copied)

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from components.retrieve.config import RetrieveConfig
from components.retrieve.job import run
from components.retrieve.model_config import SasrecConfig, TrainingConfig
from components.retrieve.models import factory
from components.retrieve.models.sasrec import Sasrec
from components.retrieve.models.sasrec_text import SasrecText, centred
from components.retrieve.tables import load

SMALL = SasrecConfig(
    dim=16, layers=1, heads=1, max_length=8, temperature=0.0, training=TrainingConfig(epochs=3, batch_size=32)
)
CONFIG = RetrieveConfig(
    models=("sasrec_text",), candidates_from="sasrec_text", num_candidates=5, sasrec_text=SMALL
)


def test_an_item_is_its_id_plus_its_kinds_plus_a_map_of_its_text() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(6, 3)
    vectors[2] = 0
    kinds = torch.tensor([[1, 3], [1, 4], [0, 0], [2, 3], [2, 0], [0, 4]])
    network = SasrecText(vectors, kinds, SMALL)
    ids, of_text, of_kind = (
        p.detach().double().numpy()
        for p in (network.items.weight, network.of_text.weight, network.of_kind.weight)
    )
    assert len(of_kind) == 5
    expected = ids[:6] + vectors.double().numpy() @ of_text.T
    for item, kind in ((0, 1), (0, 3), (1, 1), (1, 4), (3, 2), (3, 3), (4, 2), (5, 4)):
        expected[item] += of_kind[kind]
    assert network.item_vectors().detach().numpy() == pytest.approx(expected, abs=1e-6)
    assert expected[2] == pytest.approx(ids[2])
    assert network.embed(torch.tensor([4, 2])).detach().numpy() == pytest.approx(expected[[4, 2]], abs=1e-6)
    assert network.embed(torch.tensor(6)).detach().numpy() == pytest.approx(ids[6])  # padding
    assert not {"vectors", "kinds"} & set(network.state_dict())


def test_centred_vectors_have_no_mean_and_length_1() -> None:
    """Vectors as an encoder gives them: a large common part."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(4000, 6, generator=generator) * torch.tensor([9.0, 3.0, 1.0, 0.3, 0.1, 0.0]) + 40
    vectors[7] = 0
    found = centred(vectors)
    known = np.delete(vectors.double().numpy(), 7, 0)
    apart = known - known.mean(0)
    expected = apart / np.linalg.norm(apart, axis=1, keepdims=True)
    assert np.delete(found.numpy(), 7, 0) == pytest.approx(expected, abs=1e-6)
    assert found[7].tolist() == [0] * 6


@pytest.mark.parametrize("shared", ["text", "kind"])
def test_items_that_share_something_move_together(shared: str) -> None:
    """Learn of one item alone: its twin rises in its wake, an item without text and kinds does not."""
    torch.manual_seed(0)
    vectors = torch.eye(4)[[0, 1, 1, 2]] * torch.tensor([1.0, 1.0, 1.0, 0.0])[:, None]
    kinds = torch.tensor([[1, 0], [2, 3], [2, 3], [0, 0]])
    network = SasrecText(vectors, kinds, dataclasses.replace(SMALL, dropout=0.0))
    learnt = {"text": network.of_text, "kind": network.of_kind}[shared]
    optimizer = torch.optim.SGD(learnt.parameters(), lr=0.5)
    before = network.item_vectors().detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        network.loss(torch.tensor([[0, 1]]), torch.tensor([2])).backward()
        optimizer.step()
    moved = (network.item_vectors() - before).detach()
    torch.testing.assert_close(moved[1], moved[2])
    assert moved[1].norm() > 0
    assert moved[3].norm() == 0


def test_kinds_are_numbers_of_one_table(write_tables) -> None:
    topics = {"w": "t", "x": "t", "y": "s"}
    inputs = write_tables({"u": ["w", "x", "y", "z"]}, brands={"w": "b", "y": "a", "z": "b"}, topics=topics)
    data = load(inputs["sequences"], inputs["catalogue"])
    assert data.kinds.tolist() == [[2, 4], [0, 4], [1, 3], [2, 0]]
    assert data.is_described.all()


def test_only_titles_brands_and_tags_are_texts(write_tables) -> None:
    inputs = write_tables({"u": ["x", "y", "z"]}, tags={"x": ["a"]}, brands={"z": "b"})
    data = load(inputs["sequences"], inputs["catalogue"])  # titles are the items' ids here
    assert data.has_text.tolist() == [True, False, True]


def test_a_catalogue_of_ids_alone_falls_back_to_sasrec_and_says_so(write_tables, ring, outputs) -> None:
    report = run(CONFIG, **write_tables(ring), **outputs)
    assert "sasrec_text is SASRec" in report.flags[0]
    assert "sasrec_text is SASRec" in outputs["report_html"].read_text()
    for name, known in (("tags", ["shoes"]), ("topics", "shoes")):
        described = run(CONFIG, **write_tables(ring, name=name, **{name: {"i0001": known}}), **outputs)
        assert not any("sasrec_text" in flag for flag in described.flags)


def test_texts_and_topics_are_read_only_where_there_are_some(write_tables, ring, tmp_path: Path) -> None:
    def fit(name: str, **tables: dict) -> object:
        inputs = write_tables(ring, name=name, **tables)
        data = load(inputs["sequences"], inputs["catalogue"])
        parts = data.train(), data.queries("valid"), -1, tmp_path / name
        return factory.fit("sasrec_text", CONFIG, data, *parts)[0]

    assert type(fit("without").network) is Sasrec
    network = fit("with", tags={"i0003": ["running shoes"], "i0005": ["tea"]}).network
    has_vector = network.vectors.norm(dim=1).numpy() > 0
    assert np.flatnonzero(has_vector).tolist() == [3, 5]
    of_topic = fit("of topic", topics={"i0003": "running shoes"}).network
    assert not of_topic.vectors.any() and np.flatnonzero(of_topic.kinds.sum(1)).tolist() == [3]


def test_texts_that_tell_nothing_apart_are_no_vectors() -> None:
    alike = torch.tensor([[0.6, 0.8], [0.0, 0.0], *([0.6, 0.8],) * 5])
    for vectors in (alike, alike[:2]):
        assert not centred(vectors).any()

import dataclasses

import numpy as np
import pytest
import torch

from components.retrieve.config import RetrieveConfig
from components.retrieve.model_config import SemanticIdConfig, TigerConfig
from components.retrieve.models import factory
from components.retrieve.models.tiger.semantic_ids import ResidualAutoencoder, semantic_ids, with_tie_breaker
from components.retrieve.tables import load
from components.shared.errors import TrainingError

CPU = torch.device("cpu")
SMALL = SemanticIdConfig(levels=3, codes=8, dim=8, hidden=(32,), epochs=60, batch_size=64)


def clusters(count: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Points around four centres in eight dimensions; which centre each belongs to."""
    generator = np.random.default_rng(0)
    centre = np.arange(count) % 4
    points = generator.normal(size=(4, 8))[centre] + 0.05 * generator.normal(size=(count, 8))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), centre


def ids(vectors: np.ndarray, config: SemanticIdConfig = SMALL) -> np.ndarray:
    torch.manual_seed(0)
    return semantic_ids(torch.from_numpy(vectors), config, 0, CPU)


def test_items_alike_share_words_and_no_two_items_an_id() -> None:
    vectors, centre = clusters()
    found = ids(vectors)
    assert found.shape == (160, 4)
    assert len(np.unique(found, axis=0)) == 160
    for cluster in range(4):  # a first word belongs to one cluster
        mine = set(found[centre == cluster, 0])
        assert not mine & set(found[centre != cluster, 0])


def test_ids_repeat() -> None:
    vectors, _ = clusters()
    assert np.array_equal(ids(vectors), ids(vectors))


def test_ids_are_made_once(write_tables, tmp_path, monkeypatch) -> None:
    inputs = write_tables({"u": ["x", "y", "z"]})
    data, config = (
        load(inputs["sequences"], inputs["catalogue"]),
        RetrieveConfig(tiger=TigerConfig(ids=SMALL)),
    )
    monkeypatch.setattr(factory, "encode", lambda *_: clusters(3)[0])
    first = factory.tiger_ids(config, data, tmp_path)
    monkeypatch.setattr(factory, "encode", None)
    monkeypatch.setattr(factory, "semantic_ids", None)
    assert np.array_equal(factory.tiger_ids(config, data, tmp_path), first)


def test_items_with_the_same_words_are_numbered_in_their_order() -> None:
    codes = np.array([[1, 2], [0, 0], [1, 2], [1, 2], [0, 1], [0, 0]])
    assert with_tie_breaker(codes)[:, 2].tolist() == [0, 0, 1, 2, 0, 1]


def test_fewer_items_than_words() -> None:
    assert len(np.unique(ids(clusters(3)[0]), axis=0)) == 3


def test_quantising_takes_the_nearest_word_of_what_is_left() -> None:
    network = ResidualAutoencoder(4, dataclasses.replace(SMALL, levels=2, codes=2, dim=2, hidden=()))
    network.books.data = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.0], [0.0, 0.5]]])
    codes, words = network.quantise(torch.tensor([[1.1, 0.4], [0.6, 1.0]]))
    # [1.1, .4] - [1, 0] = [.1, .4], nearest [0, .5]; [.6, 1] - [0, 1] = [.6, 0], nearest [.5, 0].
    assert codes.tolist() == [[0, 1], [1, 0]]
    assert words.sum(1).tolist() == [[1.0, 0.5], [0.5, 1.0]]


def test_the_loss_is_the_papers_sum() -> None:
    """Reconstruction + sum over levels of |sg(r) - e|^2 + commitment * |r - sg(e)|^2, in float64 by hand."""
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, levels=2, codes=3, dim=2, hidden=(5,))
    network = ResidualAutoencoder(4, config).double()
    network.books.data = torch.randn(2, 3, 2, dtype=torch.float64)
    x = torch.randn(6, 4, dtype=torch.float64)
    residual, total, word_sum = network.encoder(x), 0.0, 0.0
    for book in network.books:
        e = book[((residual[:, None] - book) ** 2).sum(-1).argmin(1)]
        total = total + (1 + config.commitment) * ((residual - e) ** 2).sum(1)
        word_sum, residual = word_sum + e, residual - e
    expected = (((network.decoder(word_sum) - x) ** 2).sum(1) + total).mean()
    torch.testing.assert_close(network.loss(x), expected)


def test_a_loss_that_is_no_number_names_the_knob() -> None:
    for epochs in (5, 1):  # in the only step, weights break after the loss
        wild = dataclasses.replace(SMALL, epochs=epochs, batch_size=10_000, learning_rate=1.0e39)
        with pytest.raises(TrainingError, match=r"is not finite.*retrieve\.tiger\.ids\.learning_rate"):
            ids(clusters()[0], wild)


@pytest.mark.parametrize("wrong", [{"learning_rate": 0.0}, {"hidden": (8, 0)}, {"levels": 0}])
def test_settings_that_learn_nothing_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SemanticIdConfig(**wrong)

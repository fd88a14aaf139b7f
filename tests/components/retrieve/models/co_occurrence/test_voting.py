import numpy as np
import pytest
import torch

from components.retrieve.interactions import Histories
from components.retrieve.model_config import ItemToItemConfig
from components.retrieve.models.co_occurrence.item_to_item import ItemToItem
from components.retrieve.models.co_occurrence.transition_graph import TransitionGraph
from components.retrieve.models.co_occurrence.voting import VotingScorer
from components.retrieve.ranking import DenseScores


def model_and_asked(kind: str, items: int, users: int) -> tuple[VotingScorer, Histories]:
    """Ties are the rule: equal distances, popular items alike; one history is empty, one of every item."""
    generator = np.random.default_rng(items)
    lengths = generator.integers(1, 8, users)
    train = Histories.from_lengths(generator.integers(0, items, lengths.sum()), lengths)
    config = ItemToItemConfig(window=3, neighbours=5, last=4)
    model = ItemToItem(train, items, config) if kind == "item_to_item" else None
    asked = np.concatenate([train.items, np.arange(items)])
    rows = Histories.from_lengths(asked, np.array([*lengths, 0, items]))
    return model or TransitionGraph(train, items, config), rows


@pytest.mark.parametrize("kind", ["item_to_item", "transition_graph"])
@pytest.mark.parametrize("items", [6, 60, 500])
@pytest.mark.parametrize("depth", [1, 10, 100])
def test_sparse_votes_answer_as_the_dense_matrix_does(kind: str, items: int, depth: int) -> None:
    model, asked = model_and_asked(kind, items, users=30)
    sparse, dense = model.block(asked), DenseScores(model.scores(asked), asked)
    found, expected = sparse.best_unseen(depth), dense.best_unseen(depth)
    assert np.array_equal(found.items, expected.items)
    np.testing.assert_array_equal(found.scores, expected.scores)
    every = np.tile(np.arange(items), (len(asked), 1))
    np.testing.assert_allclose(sparse.log_softmax(every), dense.log_softmax(every), rtol=1e-5, atol=1e-6)


def test_many_votes_do_not_overflow() -> None:
    """Votes grow with the root of an item's transitions: the softmax of thousands is finite."""
    model, asked = model_and_asked("item_to_item", 20, users=5)
    model.neighbours = model.neighbours * 1e6
    scores = model.block(asked).log_softmax(np.zeros((len(asked), 1), np.int64))
    expected = torch.log_softmax(model.scores(asked), 1)[:, :1]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)

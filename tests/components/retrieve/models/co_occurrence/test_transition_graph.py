import numpy as np
import pytest

from components.retrieve.interactions import Histories
from components.retrieve.model_config import ItemToItemConfig
from components.retrieve.models.co_occurrence.transition_graph import TransitionGraph

CONFIG = ItemToItemConfig(window=3, last=4, decay=0.4)


def histories(*rows: list[int]) -> Histories:
    flat = np.array([item for row in rows for item in row], dtype=np.int64)
    return Histories.from_lengths(flat, np.array([len(row) for row in rows]))


def plain_scores(train: list[list[int]], history: list[int], items: int) -> np.ndarray:
    """The same by loops over pairs and dense matrices."""
    weights = np.zeros((items, items))
    for row in train:
        for i, before in enumerate(row):
            for j in range(i + 1, min(i + 4, len(row))):
                weights[before, row[j]] += 1 / (j - i)
    out = np.maximum(weights.sum(1, keepdims=True), 1e-300)
    total = np.zeros(items)
    for age, item in enumerate(reversed(history[-4:])):
        first = weights[item] / np.sqrt(out[item])
        total += 0.4**age * (first + first @ (weights / out))
    counts = np.bincount([item for row in train for item in row], minlength=items)
    return np.where(total > 0, 1 + total, counts / (counts.max() + 1))


def test_scores_equal_dense_arithmetic() -> None:
    generator = np.random.default_rng(0)
    train = [generator.integers(0, 12, generator.integers(1, 9)).tolist() for _ in range(15)]
    asked = [[3], [1, 1, 2], generator.integers(0, 12, 9).tolist(), []]
    scores = TransitionGraph(histories(*train), 12, CONFIG).scores(histories(*asked)).numpy()
    for row, history in zip(scores, asked, strict=True):
        assert row == pytest.approx(plain_scores(train, history, 12), rel=1e-12)


def test_the_second_step_reaches_what_no_history_held_together() -> None:
    model = TransitionGraph(histories([0, 1], [1, 2], [3]), 4, CONFIG)
    assert model.rank(histories([0]), 3).items.tolist() == [[1, 2, 3]]
    assert (model.scores(histories([0]))[0] >= 1).tolist() == [False, True, True, False]


def test_ties_go_to_the_first_item_and_one_user_is_enough() -> None:
    one = TransitionGraph(histories([0, 3], [0, 1], [0, 2]), 5, CONFIG)
    assert one.rank(histories([0]), 4).items.tolist() == [[1, 2, 3, 4]]
    lonely = TransitionGraph(histories([2, 1]), 3, CONFIG)
    assert lonely.rank(histories([2], [0]), 2).items.tolist() == [[1, 0], [1, 2]]

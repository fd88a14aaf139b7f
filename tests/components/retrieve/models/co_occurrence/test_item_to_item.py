import math

import numpy as np
import pytest

from components.retrieve.interactions import Histories
from components.retrieve.model_config import ItemToItemConfig
from components.retrieve.models.co_occurrence.item_to_item import ItemToItem


def histories(*rows: list[int]) -> Histories:
    ends = np.cumsum([len(row) for row in rows])
    flat = np.array([item for row in rows for item in row], dtype=np.int64)
    return Histories(flat, ends - [len(row) for row in rows], ends)


def test_item_to_item_by_hand() -> None:
    # counts: 0 -> 1, 1 -> 2, 2 -> 2; pairs: (0, 1) at distance 1, (0, 2) at 2, (1, 2) at 1 twice.
    model = ItemToItem(histories([0, 1, 2], [1, 2]), 4, ItemToItemConfig(window=2, last=2, decay=0.5))
    scores = model.scores(histories([0], [0, 1]))
    zero_to_one, zero_to_two, one_to_two = 1 / math.sqrt(1 * 2), 0.5 / math.sqrt(1 * 2), 2 / math.sqrt(2 * 2)
    assert scores[0, 1].item() == pytest.approx(1 + zero_to_one)
    assert scores[0, 2].item() == pytest.approx(1 + zero_to_two)
    assert scores[1, 2].item() == pytest.approx(1 + one_to_two + 0.5 * zero_to_two)  # the latest counts most


def test_item_to_item_without_shared_history_follows_popularity() -> None:
    model = ItemToItem(histories([0, 1], [2, 3], [3, 2], [3]), 5, ItemToItemConfig())
    # 1 was seen beside 0; then 3 (three times), 2 (twice), 4 (never).
    assert model.rank(histories([0]), 5).items.tolist() == [[1, 3, 2, 4, -1]]
    assert model.rank(histories([]), 2).items.tolist() == [[3, 2]]
    assert model.rank(histories([4]), 2).items.tolist() == [[3, 2]]  # an item never seen in training


def test_item_to_item_learns_nothing_from_single_items() -> None:
    model = ItemToItem(histories([1], [1], [0]), 3, ItemToItemConfig())
    assert model.rank(histories([2]), 2).items.tolist() == [[1, 0]]


def test_only_the_nearest_neighbours_vote() -> None:
    train = histories([0, 1], [0, 1], [0, 2], [3])
    model = ItemToItem(train, 4, ItemToItemConfig(neighbours=1))
    assert (model.scores(histories([0]))[0] >= 1).tolist() == [False, True, False, False]


def test_directed_counts_only_what_came_after() -> None:
    config = ItemToItemConfig(window=2, last=2, decay=0.5)
    model = ItemToItem(histories([0, 1, 2], [1, 2]), 4, config, is_directed=True)
    scores = model.scores(histories([0, 1], [2]))
    expected = 1 + 2 / math.sqrt(2 * 2) + 0.5 * 0.5 / math.sqrt(1 * 2)
    assert scores[0, 2].item() == pytest.approx(expected)
    assert scores[1].max() < 1  # nothing came after item 2

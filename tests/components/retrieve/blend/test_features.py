import numpy as np
import pytest
import torch

from components.retrieve.blend.counts import FLOOR, NAMES, co_occurrences, count_features, entries, votes_of
from components.retrieve.blend.features import ItemSide, pool_features
from components.retrieve.blend.pool import pooled, union
from components.retrieve.blend.sales import Sales
from components.retrieve.interactions import NO_VALUE, Histories
from components.retrieve.ranking import Scorer


def histories(*lists: list[int]) -> Histories:
    items = np.array([item for items in lists for item in items], np.int64)
    return Histories.from_lengths(items, np.array([len(items) for items in lists]))


class Fixed(Scorer):
    """Scores every history alike."""

    def __init__(self, scores: list[float]) -> None:
        self.num_items, self.row = len(scores), torch.tensor(scores, dtype=torch.float32)

    def scores(self, histories: Histories) -> torch.Tensor:
        return self.row.repeat(len(histories), 1)


def test_counts_by_hand() -> None:
    directed, undirected = co_occurrences(histories([0, 1, 2], [1, 2], [2, 0]), 4)
    assert directed.toarray().tolist() == [[0, 1, 0.5, 0], [0, 0, 2, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert undirected.toarray().tolist() == (directed.toarray() + directed.toarray().T).tolist()


def test_features_of_counts_by_hand() -> None:
    counts = co_occurrences(histories([0, 1, 2], [1, 2], [2, 0]), 4)
    found = count_features(counts, histories([2, 3, 0, 1]), np.array([[2, 0]]))
    by_name = dict(zip(NAMES, (np.exp(found[0]) - FLOOR).T.round(5).tolist(), strict=True))
    assert by_name["directed, last"] == [2, 0]
    assert by_name["directed, last 3"] == [2.5, 0]
    assert by_name["directed, all"] == [2.5, 1]
    assert by_name["undirected, last"] == [2, 1]


def test_sparse_entries_are_those_of_the_dense_product() -> None:
    generator = np.random.default_rng(0)
    dense = generator.integers(3, size=(5, 7)) * (generator.random((5, 7)) < 0.4)
    columns = generator.integers(7, size=(5, 9))
    lists = [np.flatnonzero(row).tolist() for row in dense]
    found = entries(votes_of(histories(*lists), 7), columns)
    assert found.tolist() == np.take_along_axis((dense > 0).astype(float), columns, 1).tolist()


def test_a_pool_is_the_union_of_each_models_best_unseen_items() -> None:
    models = [Fixed([5, 4, 3, 2, 1]), Fixed([1, 2, 3, 4, 5])]
    items, scores = pooled(models, histories([0], [3, 4]), 2)
    assert items.tolist() == [[1, 2, 3, 4], [0, 1, 2, -1]]
    total = np.log(np.exp([1, 2, 3, 4, 5]).sum())
    assert scores[0, 0] == pytest.approx([4 - total, 2 - total])


def test_tied_scores_enter_the_pool_by_item_index() -> None:
    items, _ = pooled([Fixed([1, 1, 1, 1])], histories([1]), 2)
    assert items.tolist() == [[0, 2]]


def test_a_union_of_short_lists() -> None:
    assert union([np.array([[3, -1], [-1, -1]]), np.array([[3, 1], [2, -1]])]).tolist() == [[1, 3], [2, -1]]


def test_popularity_among_items_of_a_brand_and_of_a_category_by_hand() -> None:
    side = ItemSide(
        models={"fixed": Fixed([4, 3, 2, 1])},
        vectors=np.zeros((4, 1), np.float32),
        brands=np.array([0, 1, 0, NO_VALUE]),
        categories=np.array([2, 2, 2, 0]),
        counts=co_occurrences(histories([0, 1]), 4),
        popularity=np.array([3, 0, 4, 9]),
        sales=Sales.of(np.array([0]), np.array([0])),
    )
    pool = pool_features(side, histories([1]), np.array([0]), 3)
    found = dict(zip(side.names, pool.features[0].T, strict=True))
    order = [pool.items[0].tolist().index(item) for item in (0, 2, 3)]
    expected = {
        "popularity": [4, 5, 10],
        "popularity in brand": [4 / 8, 5 / 8, 1],  # without a brand, an item stands alone
        "popularity in category": [4 / 8, 5 / 8, 1],
    }
    for name, values in expected.items():
        assert np.exp(found[name][order]).tolist() == pytest.approx(values)

import numpy as np

from components.retrieve.interactions import Histories
from components.retrieve.models.popularity import Popularity, item_counts


def histories(*rows: list[int]) -> Histories:
    ends = np.cumsum([len(row) for row in rows])
    flat = np.array([item for row in rows for item in row], dtype=np.int64)
    return Histories(flat, ends - [len(row) for row in rows], ends)


def test_popularity_orders_by_count_then_index() -> None:
    popularity = Popularity(item_counts(histories([2, 0], [2, 3], [3]), 5))
    assert popularity.rank(histories([4], [2]), 5).items.tolist() == [[2, 3, 0, 1, -1], [3, 0, 1, 4, -1]]

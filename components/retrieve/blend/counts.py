"""Co-occurrence counts of items, and how a history votes by them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from components.retrieve.interactions import Histories, Ints
from components.retrieve.models.co_occurrence.pairs import entries, successor_weights

WINDOW = 3
"""Distance at which two items of a history still count; a pair weighs 1 / distance."""
LATEST = {"last": 1, "last 3": 3, "all": 1_000_000}
"""The items of a history, counted from its end, that vote together."""
FLOOR = 0.1
"""Added to counts before the logarithm."""
NAMES = tuple(f"{kind}, {latest}" for kind in ("directed", "undirected") for latest in LATEST)
Floats = npt.NDArray[np.floating]


def co_occurrences(train: Histories, num_items: int) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Return how often items follow each other within WINDOW, [before, after] and both ways."""
    directed = successor_weights(train, num_items, WINDOW)
    return directed, (directed + directed.T).tocsr()


def count_features(counts: Sequence[sparse.csr_array], histories: Histories, items: Ints) -> Floats:
    """Return the log counts of `items` [rows, n] after histories' LATEST items, [rows, n, NAMES]."""
    columns = []
    for matrix in counts:
        for latest in LATEST.values():
            votes = votes_of(histories.last(latest), matrix.shape[0])
            columns.append(np.log(FLOOR + entries(votes @ matrix, items)))
    return np.stack(columns, axis=-1)


def votes_of(histories: Histories, num_items: int, weights: Floats | float = 1.0) -> sparse.csr_array:
    """Return [histories, items] with `weights` (flat, or one) of the items held."""
    _, items = histories.flat()
    values = np.broadcast_to(np.asarray(weights, np.float32), items.shape)
    offsets = np.concatenate([[0], np.cumsum(histories.lengths)])
    return sparse.csr_array((values, items, offsets), shape=(len(histories), num_items))

"""Co-occurrence of items as sparse matrices, and how their entries are read."""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from components.retrieve.interactions import Histories, Ints


def successor_weights(train: Histories, num_items: int, window: int) -> sparse.csr_array:
    """Return how often column follows row within `window`, each time 1 / distance."""
    rows, items = train.flat()
    total = sparse.csr_array((num_items, num_items))
    for distance in range(1, window + 1):
        same = rows[distance:] == rows[:-distance]
        pairs = items[:-distance][same], items[distance:][same]
        ones = np.full(len(pairs[0]), 1.0 / distance)
        total = total + sparse.csr_array((ones, pairs), shape=total.shape)
    return total


def strongest(weights: sparse.csr_array, count: int) -> sparse.csr_array:
    """Return `weights` with the `count` highest of each row, ties by column."""
    entries = weights.tocoo()
    order = np.lexsort((entries.col, -entries.data, entries.row))
    rank = np.arange(len(order)) - weights.indptr[entries.row[order]]
    kept = order[rank < count]
    return sparse.csr_array((entries.data[kept], (entries.row[kept], entries.col[kept])), weights.shape)


def entries(matrix: sparse.csr_array, columns: Ints) -> npt.NDArray:
    """Return the entries of `matrix` [rows, m] at the `columns` [rows, n] of each row."""
    # Indexing by scipy walks along a row for each of its columns; a search in order does not.
    matrix = in_order(matrix)
    width = matrix.shape[1]
    first = np.arange(len(columns))[:, None] * width
    keys = np.repeat(first[:, 0], np.diff(matrix.indptr)) + matrix.indices
    wanted = first + columns
    at = np.minimum(np.searchsorted(keys, wanted), max(0, len(keys) - 1))
    return np.where(keys[at] == wanted, matrix.data[at], 0) if len(keys) else np.zeros(columns.shape)


def in_order(matrix: sparse.csr_array) -> sparse.csr_array:
    """Return `matrix` with the columns of each row ascending, in linear time."""
    return matrix if matrix.has_sorted_indices else matrix.tocsc().tocsr()

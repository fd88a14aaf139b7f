"""Item-to-item: neighbours by co-occurrence in histories (Linden, Smith & York 2003)."""

import numpy as np
from scipy import sparse

from components.retrieve.interactions import Histories
from components.retrieve.model_config import ItemToItemConfig
from components.retrieve.models.co_occurrence.voting import VotingScorer


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


class ItemToItem(VotingScorer):
    """Votes by cosine of co-occurrence, before or after, or directed: of what came after alone."""

    def __init__(
        self, train: Histories, num_items: int, config: ItemToItemConfig, is_directed: bool = False
    ) -> None:
        super().__init__(train, num_items, config)
        pairs = successor_weights(train, num_items, config.window)
        norms = sparse.diags_array(1 / np.sqrt(np.maximum(self.counts, 1)))
        cosines = norms @ (pairs if is_directed else pairs + pairs.T) @ norms
        self.neighbours = strongest(cosines.tocsr(), config.neighbours)

    def elect(self, votes: sparse.csr_array) -> sparse.csr_array:
        """Return the votes for each item's nearest neighbours."""
        return votes @ self.neighbours

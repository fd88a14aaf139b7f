"""Item-to-item: neighbours by co-occurrence in histories (Linden, Smith & York 2003)."""

import numpy as np
import numpy.typing as npt
import torch

from components.retrieve.interactions import Histories, Ints
from components.retrieve.model_config import ItemToItemConfig
from components.retrieve.models.popularity import item_counts
from components.retrieve.ranking import Scorer

Floats = npt.NDArray[np.floating]


def recency_weights(latest: Histories, decay: float) -> Floats:
    """Return `decay` to the power of each item's distance from its history's end, flat."""
    age = np.repeat(np.cumsum(latest.lengths), latest.lengths) - 1 - np.arange(latest.lengths.sum())
    return decay**age


class ItemToItem(Scorer):
    """Neighbours of the latest items by cosine of co-occurrence; then, popular items fill the list."""

    vote_threshold = 1.0

    def __init__(self, train: Histories, num_items: int, config: ItemToItemConfig) -> None:
        self.num_items = num_items
        self.config = config
        self.counts = item_counts(train, num_items)
        pairs, weights = _pairs(train, num_items, config.window)
        left, right = np.divmod(pairs, num_items)
        similarity = weights / np.sqrt(self.counts[left].astype(float) * self.counts[right])
        left, self.right, self.similarity = _nearest(left, right, similarity, config.neighbours)
        self.begin = np.searchsorted(left, np.arange(num_items + 1))

    def scores(self, histories: Histories) -> torch.Tensor:
        """Return 1 + summed similarity, or without any, the share of the highest count."""
        latest = histories.last(self.config.last)
        rows, items = latest.flat()
        votes = recency_weights(latest, self.config.decay)
        neighbours = Histories(np.arange(len(self.right)), self.begin[items], self.begin[items + 1])
        source, entry = neighbours.flat()
        cells = rows[source] * self.num_items + self.right[entry]
        total = np.bincount(
            cells, weights=votes[source] * self.similarity[entry], minlength=len(histories) * self.num_items
        ).reshape(len(histories), self.num_items)
        backoff = self.counts / (self.counts.max() + 1)
        return torch.from_numpy(np.where(total > 0, 1 + total, backoff[None, :]))


def _pairs(train: Histories, num_items: int, window: int) -> tuple[Ints, npt.NDArray]:
    """Return the distinct ordered pairs (left * items + right) within `window`, and their weights."""
    rows, items = train.flat()
    codes, weights = [], []
    for distance in range(1, window + 1):
        same = rows[distance:] == rows[:-distance]
        before, after = items[:-distance][same], items[distance:][same]
        for left, right in ((before, after), (after, before)):
            codes.append(left * num_items + right)
            weights.append(np.full(len(left), 1.0 / distance))
    pairs, index = np.unique(np.concatenate(codes), return_inverse=True)
    return pairs, np.bincount(index, weights=np.concatenate(weights), minlength=len(pairs))


def _nearest(left: Ints, right: Ints, similarity: Floats, count: int) -> tuple[Ints, Ints, Floats]:
    """Return the `count` nearest neighbours of each item, ties by item index, sorted by `left`."""
    order = np.lexsort((right, -similarity, left))
    left, right, similarity = left[order], right[order], similarity[order]
    rank = np.arange(len(left)) - np.searchsorted(left, left)
    keep = rank < count
    return left[keep], right[keep], similarity[keep]

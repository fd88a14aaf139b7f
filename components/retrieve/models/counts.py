"""Recommenders that count: popularity, and item-to-item co-occurrence."""

import numpy as np
import numpy.typing as npt
import torch

from components.retrieve.config import ItemToItemConfig
from components.retrieve.interactions import Examples, Histories, Ints
from components.retrieve.ranking import Ranked, Scorer

Floats = npt.NDArray[np.float64]


def item_counts(train: Histories, num_items: int) -> Ints:
    """Return how often each item stands in `train`, [items]."""
    return np.bincount(train.flat()[1], minlength=num_items)


class Popularity(Scorer):
    """The same order for everyone: items by their count in the train part."""

    def __init__(self, counts: npt.NDArray) -> None:
        self.num_items = len(counts)
        self.counts = torch.from_numpy(counts.astype(np.float32))

    def scores(self, histories: Histories) -> torch.Tensor:
        """Return the counts, once a row."""
        return self.counts.repeat(len(histories), 1)

    def answer(self, asked: Examples, depth: int) -> Ranked:
        """Return `rank`, which needs no history."""
        return self.rank(asked.histories, depth)


class ItemToItem(Scorer):
    """Items seen near the items of the history, by cosine of weighted co-occurrence.

    Linden, Smith & York 2003, with pairs weighted by 1 / distance in the sequence. Items without any
    shared history follow by popularity, so every list is full.
    """

    evidence = 1.0

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
        """Return 1 + summed similarity where there is any, else the share of the highest count, < 1."""
        latest = histories.last(self.config.last)
        rows, items = latest.flat()
        ends = np.cumsum(latest.lengths)
        age = np.repeat(ends, latest.lengths) - 1 - np.arange(len(items))
        votes = self.config.decay**age
        near = Histories(np.arange(len(self.right)), self.begin[items], self.begin[items + 1])
        source, entry = near.flat()
        cells = rows[source] * self.num_items + self.right[entry]
        total = np.bincount(
            cells, weights=votes[source] * self.similarity[entry], minlength=len(histories) * self.num_items
        ).reshape(len(histories), self.num_items)
        backoff = self.counts / (self.counts.max() + 1)
        return torch.from_numpy(np.where(total > 0, 1 + total, backoff[None, :]))


def _pairs(train: Histories, num_items: int, window: int) -> tuple[Ints, Floats]:
    """Return the distinct ordered pairs (left * items + right) within `window`, and their weights."""
    rows, items = train.flat()
    codes, weights = [], []
    for distance in range(1, window + 1):
        same = rows[distance:] == rows[:-distance] if distance < len(rows) else np.zeros(0, bool)
        before, after = items[:-distance][same], items[distance:][same]
        for left, right in ((before, after), (after, before)):
            codes.append(left * num_items + right)
            weights.append(np.full(len(left), 1.0 / distance))
    pairs, place = np.unique(np.concatenate(codes), return_inverse=True)
    total = np.bincount(place, weights=np.concatenate(weights), minlength=len(pairs))
    return pairs.astype(np.int64), total.astype(np.float64)


def _nearest(left: Ints, right: Ints, similarity: Floats, count: int) -> tuple[Ints, Ints, Floats]:
    """Return the `count` nearest neighbours of each item, ties by item index, sorted by `left`."""
    order = np.lexsort((right, -similarity, left))
    left, right, similarity = left[order], right[order], similarity[order]
    rank = np.arange(len(left)) - np.searchsorted(left, left)
    keep = rank < count
    return left[keep], right[keep], similarity[keep]

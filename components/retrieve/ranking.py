"""Exact ranking of the full catalogue, seen items excluded, in blocks of users."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from components.retrieve.interactions import Bools, Histories, Ints, Queries

BLOCK_BYTES = 16 << 20
"""Memory of one block of scores: what the processor's caches can hold is fastest …"""
BLOCK_ROWS = 64
"""… but a block has at least so many users: 256 MB of scores at a million items, beside the item table."""


def blocks(rows: int, num_items: int) -> Iterator[slice]:
    """Yield the rows that are scored at a time."""
    size = max(BLOCK_ROWS, BLOCK_BYTES // (4 * num_items))
    return (slice(start, start + size) for start in range(0, rows, size))


@dataclass(frozen=True)
class RankedLists:
    """Ranked lists. `items` [rows, depth] int64, -1 after the last; `scores` [rows, depth] float32."""

    items: Ints
    scores: npt.NDArray[np.float32]

    @classmethod
    def empty(cls, rows: int, depth: int) -> "RankedLists":
        """Return empty lists, to be filled."""
        return cls(np.full((rows, depth), -1, np.int64), np.full((rows, depth), -np.inf, np.float32))

    @classmethod
    def best(cls, items: Ints, scores: npt.NDArray, depth: int) -> "RankedLists":
        """Return the `depth` best by (score descending, item ascending), without those of score -inf."""
        order = np.lexsort((items, -scores), axis=1)[:, :depth]
        items, scores = np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)
        lists = cls.empty(len(items), depth)
        lists.items[:, : items.shape[1]] = np.where(scores == -np.inf, -1, items)
        lists.scores[:, : items.shape[1]] = scores
        return lists

    def hits(self, queries: Queries) -> Bools:
        """Return whether each listed item is one of its query's labels, [rows, depth]."""
        return contains(queries.labels, self.items)


class Recommender(abc.ABC):
    """A trained model that recommends ranked lists."""

    vote_threshold: float = -np.inf
    """Items that score lower only fill the list (by popularity); they have no vote in a fusion."""

    @abc.abstractmethod
    def recommend(self, queries: Queries, depth: int) -> RankedLists:
        """Return at most `depth` items that each history lacks, best first."""


class Scorer(Recommender):
    """A model that scores every item of the catalogue for a block of histories."""

    num_items: int

    @abc.abstractmethod
    def scores(self, histories: Histories) -> torch.Tensor:
        """Return a score per history and item, [rows, items] float32 or float64, in fresh memory."""

    def rank(self, histories: Histories, depth: int) -> RankedLists:
        """Return the best `depth` items of the full catalogue that each history lacks."""
        lists = RankedLists.empty(len(histories), depth)
        for rows in blocks(len(histories), self.num_items):
            block = histories.take(rows)
            best = top_unseen(self.scores(block), block, depth)
            lists.items[rows], lists.scores[rows] = best.items, best.scores
        return lists

    def recommend(self, queries: Queries, depth: int) -> RankedLists:
        """Return `rank`, with empty lists for empty histories."""
        lists = self.rank(queries.histories, depth)
        is_cold = queries.histories.lengths == 0
        lists.items[is_cold], lists.scores[is_cold] = -1, -np.inf
        return lists


def top_unseen(scores: torch.Tensor, histories: Histories, depth: int) -> RankedLists:
    """Return the `depth` best items that each history lacks; `scores` [rows, items] is overwritten."""
    rows, seen = (torch.from_numpy(indices).to(scores.device) for indices in histories.flat())
    scores[rows, seen] = -torch.inf
    kept = min(depth, scores.shape[1])
    top = scores.topk(kept, dim=1, sorted=False)
    worst = top.values.min(dim=1, keepdim=True).values
    # topk takes any of the items tied at the border; only rows with more such items need a fix.
    has_ties = (scores == worst).sum(1) > (top.values == worst).sum(1)
    items, best = top.indices.cpu().numpy(), top.values.cpu().numpy()
    for row in torch.nonzero(has_ties).flatten().tolist():
        row_scores, border = scores[row].cpu().numpy(), best[row].min()
        above, tied = np.flatnonzero(row_scores > border), np.flatnonzero(row_scores == border)
        items[row] = np.concatenate([above, tied[: kept - len(above)]])
        best[row] = row_scores[items[row]]
    return RankedLists.best(items, best, depth)


def contains(histories: Histories, items: Ints) -> Bools:
    """Return whether history i holds each of `items` [rows, any number]; -1 is never held."""
    rows, held = histories.flat()
    width = 1 + max(items.max(initial=0), held.max(initial=0))
    keys = np.arange(len(histories))[:, None] * width + items
    return np.isin(keys, rows * width + held) & (items >= 0)


def recall(hits: Bools, labels: Ints, k: int) -> npt.NDArray[np.float64]:
    """Return Recall@k per row of `hits` [rows, depth]; `labels` are label counts, at least 1."""
    return hits[:, :k].sum(1) / labels


def ndcg(hits: Bools, labels: Ints, k: int) -> npt.NDArray[np.float64]:
    """Return NDCG@k per row with gains 1/log2(rank + 1); `labels` are counts >= 1."""
    gains = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(gains)
    depth = min(k, hits.shape[1])
    return (hits[:, :depth] * gains[:depth]).sum(1) / ideal[np.minimum(labels, k) - 1]

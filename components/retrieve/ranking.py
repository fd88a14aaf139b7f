"""Exact ranking of the full catalogue, seen items excluded, in blocks of users."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.retrieve.interactions import Bools, Histories, Ints, Queries

NO_ITEM = -1
"""Stands in lists behind their last item."""
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
    """Ranked lists. `items` [rows, depth] int64, NO_ITEM after the last; `scores` [rows, depth] float32."""

    items: Ints
    scores: npt.NDArray[np.float32]

    @classmethod
    def empty(cls, rows: int, depth: int) -> "RankedLists":
        """Return empty lists, to be filled."""
        return cls(np.full((rows, depth), NO_ITEM, np.int64), np.full((rows, depth), -np.inf, np.float32))

    @classmethod
    def best(cls, items: Ints, scores: npt.NDArray, depth: int) -> "RankedLists":
        """Return the `depth` best by (score descending, item ascending), without those of score -inf."""
        order = np.lexsort((items, -scores), axis=1)[:, :depth]
        items, scores = np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)
        lists = cls.empty(len(items), depth)
        lists.items[:, : items.shape[1]] = np.where(scores == -np.inf, NO_ITEM, items)
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


class Scores(abc.ABC):
    """Scores of every item of the catalogue for a block of histories."""

    @abc.abstractmethod
    def best_unseen(self, depth: int) -> RankedLists:
        """Return the `depth` best items that each history lacks."""

    @abc.abstractmethod
    def log_softmax(self, items: Ints) -> npt.NDArray[np.float32]:
        """Return the log of each row's softmax over the catalogue at `items` [rows, n]."""


@dataclass(frozen=True)
class DenseScores(Scores):
    """Scores as a matrix [rows, items], maybe on a GPU."""

    matrix: Tensor
    histories: Histories

    def best_unseen(self, depth: int) -> RankedLists:
        """Return `top_unseen`."""
        return top_unseen(self.matrix, self.histories, depth)

    def log_softmax(self, items: Ints) -> npt.NDArray[np.float32]:
        """Return the log of each row's softmax over the catalogue at `items` [rows, n]."""
        picked = self.matrix.gather(1, torch.from_numpy(items).to(self.matrix.device))
        return (picked - self.matrix.logsumexp(1, keepdim=True)).float().cpu().numpy()


class Scorer(Recommender):
    """A model that scores every item of the catalogue for a block of histories."""

    num_items: int

    @abc.abstractmethod
    def scores(self, histories: Histories) -> Tensor:
        """Return a score per history and item, [rows, items] float32 or float64, in fresh memory."""

    def block(self, histories: Histories) -> Scores:
        """Return `scores`, in whatever form serves them fastest."""
        return DenseScores(self.scores(histories), histories)

    def rank(self, histories: Histories, depth: int) -> RankedLists:
        """Return the best `depth` items of the full catalogue that each history lacks."""
        lists = RankedLists.empty(len(histories), depth)
        for rows in blocks(len(histories), self.num_items):
            best = self.block(histories.take(rows)).best_unseen(depth)
            lists.items[rows], lists.scores[rows] = best.items, best.scores
        return lists

    def recommend(self, queries: Queries, depth: int) -> RankedLists:
        """Return `rank`, with empty lists for empty histories."""
        lists = self.rank(queries.histories, depth)
        is_cold = queries.histories.lengths == 0
        lists.items[is_cold], lists.scores[is_cold] = NO_ITEM, -np.inf
        return lists


def top_unseen(scores: Tensor, histories: Histories, depth: int) -> RankedLists:
    """Return the `depth` best items of `scores` [rows, items] that each history lacks."""
    rows, seen = (torch.from_numpy(indices).to(scores.device) for indices in histories.flat())
    hidden = scores[rows, seen]
    scores[rows, seen] = -torch.inf
    items, values = top_columns(scores, depth)
    scores[rows, seen] = hidden
    return RankedLists.best(items, values, depth)


def top_columns(scores: Tensor, depth: int) -> tuple[Ints, npt.NDArray]:
    """Return columns and scores [rows, depth or fewer] of each row's highest, in no order.

    Of columns tied at the border, the first.
    """
    kept = min(depth, scores.shape[1])
    top = scores.topk(min(kept + 1, scores.shape[1]), dim=1)
    columns, values = top.indices[:, :kept], top.values[:, :kept]
    if kept and top.values.shape[1] > kept:
        # topk takes any of the tied: where there are more than fit, the first are found anew.
        border = values[:, -1]
        rows = torch.nonzero((top.values[:, kept] == border) & (border > -torch.inf)).flatten()
        tied = scores[rows] == border[rows, None]
        above = scores[rows] > border[rows, None]
        free = kept - above.sum(1, keepdim=True)
        chosen = above | (tied & (tied.cumsum(1, dtype=torch.int32) <= free))
        columns[rows] = chosen.nonzero()[:, 1].view(len(rows), kept)
        values[rows] = scores[rows].gather(1, columns[rows])
    return columns.cpu().numpy(), values.cpu().numpy()


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

"""Ranking the full catalogue: best items that the history lacks, in blocks of users, ties exact."""

import abc
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from components.retrieve.interactions import Histories, Ints

BLOCK_BYTES = 256 << 20
"""Memory of one block of scores. Users a block = this / (4 bytes x items): 64 users at 1M items."""


@dataclass(frozen=True)
class Ranked:
    """Ranked lists. `items` [rows, depth] int64, -1 after the last; `scores` [rows, depth] float32."""

    items: Ints
    scores: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.items)

    def first(self, depth: int) -> "Ranked":
        """Return the lists cut to their first `depth` items."""
        return Ranked(self.items[:, :depth], self.scores[:, :depth])


class Recommender(abc.ABC):
    """A trained model. Subclasses score every item for a block of users."""

    num_items: int

    @abc.abstractmethod
    def scores(self, histories: Histories) -> torch.Tensor:
        """Return a score for each history and item, [rows, items] float32 or float64, fresh memory."""

    def rank(self, histories: Histories, depth: int) -> Ranked:
        """Return the best `depth` items of the full catalogue that each history lacks, best first."""
        block = max(1, BLOCK_BYTES // (4 * self.num_items))
        parts = []
        for start in range(0, len(histories), block):
            chosen = histories.take(np.arange(start, min(start + block, len(histories))))
            parts.append(top_unseen(self.scores(chosen), chosen, depth))
        if not parts:
            return Ranked(np.empty((0, depth), np.int64), np.empty((0, depth), np.float32))
        return Ranked(np.concatenate([p.items for p in parts]), np.concatenate([p.scores for p in parts]))


def top_unseen(scores: torch.Tensor, histories: Histories, depth: int) -> Ranked:
    """Return the `depth` best items by (score descending, item index ascending), seen items excluded.

    `scores` [rows, items] is overwritten. Fewer unseen items than `depth` give a shorter list. Equal to a
    full stable sort, without sorting more than `depth` items a row.
    """
    rows, seen = histories.flat()
    scores[torch.from_numpy(rows).to(scores.device), torch.from_numpy(seen).to(scores.device)] = -torch.inf
    kept = min(depth, scores.shape[1])
    top = scores.topk(kept, dim=1, sorted=False)
    worst = top.values.min(dim=1, keepdim=True).values
    # topk takes any of the items tied at the border; only those rows where it had a choice need a fix.
    choice = (scores == worst).sum(1) > (top.values == worst).sum(1)
    items, best = top.indices.cpu().numpy(), top.values.cpu().numpy()
    for row in torch.nonzero(choice).flatten().tolist():
        all_scores = scores[row].cpu().numpy()
        items[row] = _with_lowest_ties(all_scores, best[row].min(), kept)
        best[row] = all_scores[items[row]]
    order = np.lexsort((items, -best), axis=1)
    items, best = np.take_along_axis(items, order, 1), np.take_along_axis(best, order, 1)
    found = np.full((len(items), depth), -1, np.int64)
    found[:, :kept] = np.where(best == -np.inf, -1, items)
    values = np.full((len(items), depth), -np.inf, np.float32)
    values[:, :kept] = best
    return Ranked(found, values)


def _with_lowest_ties(scores: npt.NDArray, worst: float, depth: int) -> Ints:
    above = np.flatnonzero(scores > worst)
    return np.concatenate([above, np.flatnonzero(scores == worst)[: depth - len(above)]])


def fuse(rankings: Sequence[Ranked], depth: int, constant: int = 60) -> Ranked:
    """Fuse ranked lists by the sum of 1 / (constant + rank), ties by item index.

    Reciprocal-rank fusion, Cormack, Clarke & Büttcher 2009. Items that no list names are left out.
    """
    rows = len(rankings[0])
    found = np.full((rows, depth), -1, np.int64)
    values = np.full((rows, depth), -np.inf, np.float32)
    gains = [1.0 / (constant + np.arange(1, ranked.items.shape[1] + 1)) for ranked in rankings]
    gain = np.concatenate(gains)
    for row in range(rows):
        named = np.concatenate([ranked.items[row] for ranked in rankings])
        items, place = np.unique(named[named >= 0], return_inverse=True)
        total = np.bincount(place, weights=gain[named >= 0], minlength=len(items))
        order = np.lexsort((items, -total))[:depth]
        found[row, : len(order)] = items[order]
        values[row, : len(order)] = total[order]
    return Ranked(found, values)


def hits(ranked: Ranked, labels: Histories, num_items: int) -> npt.NDArray[np.bool_]:
    """Return [rows, depth]: whether the item at each rank is one of the row's labels."""
    rows, items = labels.flat()
    keys = np.arange(len(ranked))[:, None] * num_items + ranked.items
    return np.isin(keys, rows * num_items + items) & (ranked.items >= 0)


def recall(found: npt.NDArray[np.bool_], labels: Ints, k: int) -> npt.NDArray[np.float64]:
    """Return Recall@k of each row of `found` (from `hits`); `labels` are label counts, at least 1."""
    return found[:, :k].sum(1) / labels


def ndcg(found: npt.NDArray[np.bool_], labels: Ints, k: int) -> npt.NDArray[np.float64]:
    """Return NDCG@k of each row with binary gains 1/log2(rank + 1); `labels` are label counts, >= 1."""
    gains = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.array([*itertools.accumulate(gains)])
    depth = min(k, found.shape[1])
    return (found[:, :depth] * gains[:depth]).sum(1) / ideal[np.minimum(labels, k) - 1]

"""Ranking the full catalogue: best items that the history lacks, in blocks of users, ties exact."""

import abc
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from components.retrieve.interactions import Examples, Histories, Ints

BLOCK_BYTES = 16 << 20
"""Memory of one block of scores: what the processor's caches can hold is fastest …"""
BLOCK_ROWS = 64
"""… but a block has at least so many users: 256 MB of scores at a million items, beside the item table."""


def blocks(histories: Histories, num_items: int) -> Iterator[Histories]:
    """Yield `histories` in the blocks that are scored at a time."""
    size = max(BLOCK_ROWS, BLOCK_BYTES // (4 * num_items))
    for start in range(0, len(histories), size):
        yield histories.take(np.arange(start, min(start + size, len(histories))))


@dataclass(frozen=True)
class Ranked:
    """Ranked lists. `items` [rows, depth] int64, -1 after the last; `scores` [rows, depth] float32."""

    items: Ints
    scores: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def nothing(cls, rows: int, depth: int) -> "Ranked":
        """Return empty lists, to be filled."""
        return cls(np.full((rows, depth), -1, np.int64), np.full((rows, depth), -np.inf, np.float32))

    def first(self, depth: int) -> "Ranked":
        """Return the lists cut to their first `depth` items."""
        return Ranked(self.items[:, :depth], self.scores[:, :depth])

    def without(self, rows: npt.NDArray[np.bool_]) -> "Ranked":
        """Return the lists, those at `rows` emptied."""
        if not rows.any():
            return self
        return Ranked(np.where(rows[:, None], -1, self.items), np.where(rows[:, None], -np.inf, self.scores))


class Recommender(abc.ABC):
    """What answers questions with ranked lists."""

    evidence: float = -np.inf
    """Items that score lower only fill the list (by popularity); they have no vote in a blend."""

    @abc.abstractmethod
    def answer(self, asked: Examples, depth: int) -> Ranked:
        """Return at most `depth` items that each history lacks, best first; none where it knows nothing."""


class Scorer(Recommender):
    """A model that scores every item of the catalogue for a block of histories."""

    num_items: int

    @abc.abstractmethod
    def scores(self, histories: Histories) -> torch.Tensor:
        """Return a score for each history and item, [rows, items] float32 or float64, fresh memory."""

    def rank(self, histories: Histories, depth: int) -> Ranked:
        """Return the best `depth` items of the full catalogue that each history lacks, best first."""
        parts = [top_unseen(self.scores(block), block, depth) for block in blocks(histories, self.num_items)]
        if not parts:
            return Ranked.nothing(0, depth)
        return Ranked(np.concatenate([p.items for p in parts]), np.concatenate([p.scores for p in parts]))

    def answer(self, asked: Examples, depth: int) -> Ranked:
        """Return `rank`; an empty history tells nothing."""
        return self.rank(asked.histories, depth).without(asked.histories.lengths == 0)


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
    found = Ranked.nothing(len(items), depth)
    found.items[:, :kept] = np.where(best == -np.inf, -1, items)
    found.scores[:, :kept] = best
    return found


def _with_lowest_ties(scores: npt.NDArray, worst: float, depth: int) -> Ints:
    above = np.flatnonzero(scores > worst)
    return np.concatenate([above, np.flatnonzero(scores == worst)[: depth - len(above)]])


def fuse(rankings: Sequence[Ranked], evidence: Sequence[float], depth: int, constant: int = 60) -> Ranked:
    """Fuse ranked lists by the sum of 1 / (constant + rank), ties by item index.

    Reciprocal-rank fusion, Cormack, Clarke & Büttcher 2009. `evidence`: a list's items that score lower
    do not vote. Where fewer than `depth` items are voted for, the lists fill up one after the other, with
    score 0.
    """
    gain = np.concatenate([1.0 / (constant + np.arange(1, r.items.shape[1] + 1)) for r in rankings])
    named = np.concatenate([ranked.items for ranked in rankings], axis=1)
    strong = [ranked.scores >= least for ranked, least in zip(rankings, evidence, strict=True)]
    votes = (named >= 0) & np.concatenate(strong, axis=1)
    found = Ranked.nothing(len(named), depth)
    for row in range(len(named)):
        items, place = np.unique(named[row][votes[row]], return_inverse=True)
        total = np.bincount(place, weights=gain[votes[row]], minlength=len(items))
        order = np.lexsort((items, -total))
        rest = named[row][(named[row] >= 0) & ~np.isin(named[row], items)]
        fill = rest[np.sort(np.unique(rest, return_index=True)[1])]
        listed = np.concatenate([items[order], fill])[:depth]
        found.items[row, : len(listed)] = listed
        found.scores[row, : len(listed)] = np.concatenate([total[order], np.zeros(len(fill))])[:depth]
    return found


def held(by: Histories, items: Ints, num_items: int) -> npt.NDArray[np.bool_]:
    """Return whether row i of `by` holds each of `items` [rows, any number]; -1 is never held."""
    rows, found = by.flat()
    keys = np.arange(len(by))[:, None] * num_items + items
    return np.isin(keys, rows * num_items + found) & (items >= 0)


def hits(ranked: Ranked, labels: Histories, num_items: int) -> npt.NDArray[np.bool_]:
    """Return [rows, depth]: whether the item at each rank is one of the row's labels."""
    return held(labels, ranked.items, num_items)


def recall(found: npt.NDArray[np.bool_], labels: Ints, k: int) -> npt.NDArray[np.float64]:
    """Return Recall@k of each row of `found` (from `hits`); `labels` are label counts, at least 1."""
    return found[:, :k].sum(1) / labels


def ndcg(found: npt.NDArray[np.bool_], labels: Ints, k: int) -> npt.NDArray[np.float64]:
    """Return NDCG@k of each row with binary gains 1/log2(rank + 1); `labels` are label counts, >= 1."""
    gains = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.array([*itertools.accumulate(gains)])
    depth = min(k, found.shape[1])
    return (found[:, :depth] * gains[:depth]).sum(1) / ideal[np.minimum(labels, k) - 1]

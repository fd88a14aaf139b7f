"""What becomes of ranked lists, row by row without a loop: fusion, filling."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from components.retrieve.interactions import Bools, Ints
from components.retrieve.ranking import RankedLists

FUSION_CONSTANT = 60
"""Added to ranks, as in Cormack, Clarke & Büttcher 2009."""


def fuse(rankings: Sequence[RankedLists], vote_thresholds: Sequence[float], depth: int) -> RankedLists:
    """Return items by their sum of 1 / (FUSION_CONSTANT + rank), ties by index.

    Items that score below their list's threshold do not vote. Where fewer than `depth` items have votes,
    the other items follow, list after list, with score 0.
    """
    gains = np.concatenate([1.0 / (FUSION_CONSTANT + np.arange(1, r.items.shape[1] + 1)) for r in rankings])
    items = np.concatenate([lists.items for lists in rankings], axis=1)
    strong = [lists.scores >= least for lists, least in zip(rankings, vote_thresholds, strict=True)]
    rows, columns = np.nonzero((items >= 0) & np.concatenate(strong, axis=1))
    width = items.max(initial=0) + 1
    voted, index = np.unique(rows * width + items[rows, columns], return_inverse=True)
    total = np.bincount(index, weights=gains[columns], minlength=len(voted))
    rows, voted = voted // width, voted % width
    order = np.lexsort((voted, -total, rows))
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    best = RankedLists.empty(len(items), int(place.max(initial=-1)) + 1)
    best.items[rows, place], best.scores[rows, place] = voted[order], total[order]
    return joined(best, RankedLists(items, np.zeros(items.shape, np.float32)), depth)


def fill(lists: RankedLists, more: RankedLists) -> RankedLists:
    """Return `lists`, each as long as before at most, short ones filled with `more`.

    What fills a list has its last score, or its own where the list is empty.
    """
    counts = (lists.items >= 0).sum(1, keepdims=True)
    last = np.take_along_axis(lists.scores, np.maximum(counts - 1, 0), 1)
    scores = np.where(counts > 0, last, more.scores)
    return joined(lists, RankedLists(more.items, scores), lists.items.shape[1])


def joined(first: RankedLists, then: RankedLists, depth: int) -> RankedLists:
    """Return each row's items of `first`, then others of `then`, `depth` at most."""
    items = np.concatenate([first.items, then.items], axis=1)
    scores = np.concatenate([first.scores, then.scores], axis=1)
    kept = first_mentions(items)
    order = np.argsort(~kept, axis=1, kind="stable")[:, :depth]
    kept, items, scores = (np.take_along_axis(column, order, 1) for column in (kept, items, scores))
    lists = RankedLists.empty(len(items), depth)
    lists.items[:, : items.shape[1]] = np.where(kept, items, -1)
    lists.scores[:, : items.shape[1]] = np.where(kept, scores, -np.inf)
    return lists


def scores_of(lists: RankedLists, items: Ints) -> npt.NDArray[np.float32]:
    """Return the lists' scores of `items` [rows, n]; what a list lacks has its last."""
    listed = lists.items >= 0
    last = np.where(listed, lists.scores, np.inf).min(1, keepdims=True, initial=np.inf)
    found = (items[:, :, None] == lists.items[:, None, :]) & listed[:, None, :]
    scores = np.take_along_axis(lists.scores, found.argmax(2), 1)
    return np.where(found.any(2), scores, np.where(np.isfinite(last), last, 0))


def first_mentions(items: Ints) -> Bools:
    """Return whether an entry is its row's first of that item; never for -1."""
    order = np.argsort(items, axis=1, kind="stable")
    in_order = np.take_along_axis(items, order, 1)
    is_first = in_order >= 0
    is_first[:, 1:] &= in_order[:, 1:] != in_order[:, :-1]
    kept = np.empty_like(is_first)
    np.put_along_axis(kept, order, is_first, 1)
    return kept

"""Reciprocal-rank fusion of several recommenders' lists."""

from collections.abc import Sequence

import numpy as np

from components.retrieve.ranking import RankedLists

CONSTANT = 60
"""Added to ranks, as in Cormack, Clarke & Büttcher 2009."""


def fuse(rankings: Sequence[RankedLists], vote_thresholds: Sequence[float], depth: int) -> RankedLists:
    """Return items by their sum of 1 / (CONSTANT + rank), ties by index.

    Items that score below their list's threshold do not vote. Where fewer than `depth` items have votes,
    the other items follow, list after list, with score 0.
    """
    gains = np.concatenate([1.0 / (CONSTANT + np.arange(1, r.items.shape[1] + 1)) for r in rankings])
    items = np.concatenate([lists.items for lists in rankings], axis=1)
    strong = [lists.scores >= least for lists, least in zip(rankings, vote_thresholds, strict=True)]
    votes = (items >= 0) & np.concatenate(strong, axis=1)
    fused = RankedLists.empty(len(items), depth)
    for row, (row_items, has_vote) in enumerate(zip(items, votes, strict=True)):
        voted, index = np.unique(row_items[has_vote], return_inverse=True)
        total = np.bincount(index, weights=gains[has_vote], minlength=len(voted))
        order = np.lexsort((voted, -total))
        others = row_items[(row_items >= 0) & ~np.isin(row_items, voted)]
        others = others[np.sort(np.unique(others, return_index=True)[1])]
        merged = np.concatenate([voted[order], others])[:depth]
        fused.items[row, : len(merged)] = merged
        fused.scores[row, : len(merged)] = np.concatenate([total[order], np.zeros(len(others))])[:depth]
    return fused

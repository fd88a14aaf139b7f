"""Popularity: the most frequent items of the train part, of all users or of those like the user."""

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from components.retrieve.interactions import NO_SEGMENT, Histories, Ints, Queries
from components.retrieve.ranking import RankedLists, Recommender, Scorer


def item_counts(train: Histories, num_items: int) -> Ints:
    """Return how often each item appears in `train`, [items]."""
    return np.bincount(train.flat()[1], minlength=num_items)


class Popularity(Scorer):
    """The same order for every user: items by their count."""

    def __init__(self, counts: npt.NDArray) -> None:
        self.num_items = len(counts)
        self.counts = torch.from_numpy(counts.astype(np.float32))

    def scores(self, histories: Histories) -> torch.Tensor:
        """Return the counts, once per history."""
        return self.counts.repeat(len(histories), 1)

    def recommend(self, queries: Queries, depth: int) -> RankedLists:
        """Return `rank`, for empty histories too."""
        return self.rank(queries.histories, depth)


class SegmentPopularity(Recommender):
    """Items by their count in the user's segment, plus `prior` interactions of the whole population.

    Dirichlet smoothing (Zhai & Lafferty 2004). `segments` are of the rows of `train`.
    """

    def __init__(self, train: Histories, segments: Ints, num_items: int, prior: float = 100.0) -> None:
        counts = item_counts(train, num_items)
        self.population = counts * (prior / max(1, counts.sum()))
        rows, items = train.flat()
        known = segments[rows] != NO_SEGMENT
        pairs = segments[rows][known], items[known]
        shape = int(segments.max(initial=0)) + 1, num_items
        self.counts = sparse.csr_array((np.ones(len(pairs[0])), pairs), shape=shape)

    def recommend(self, queries: Queries, depth: int) -> RankedLists:
        """Return what is popular in each user's segment, and not in the history.

        Scores are log(1 + count). They stand beside other users' scores by a model, and one weight serves
        all (`Ranker`): counts of thousands would set it.
        """
        lists = RankedLists.empty(len(queries), depth)
        for segment in np.unique(queries.segments):
            rows, counts = np.flatnonzero(queries.segments == segment), self.population
            if 0 <= segment < self.counts.shape[0]:
                counts = counts + self.counts[[segment]].toarray()[0]
            best = Popularity(counts).rank(queries.histories.take(rows), depth)
            lists.items[rows], lists.scores[rows] = best.items, best.scores
        found = lists.items >= 0
        lists.scores[found] = np.log1p(lists.scores[found])
        return lists

"""Popularity: the most frequent items of the train part, of all users or of those like the user."""

import numpy as np
import numpy.typing as npt
import torch

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

    Dirichlet smoothing (Zhai & Lafferty 2004). `segments` are of all users, `users` the rows of `train`.
    """

    def __init__(
        self, train: Histories, users: Ints, segments: Ints, num_items: int, prior: float = 100.0
    ) -> None:
        self.train, self.train_segments, self.segments = train, segments[users], segments
        counts = item_counts(train, num_items)
        self.population = counts * (prior / max(1, counts.sum()))

    def recommend(self, queries: Queries, depth: int) -> RankedLists:
        """Return what is popular in each user's segment, and not in the history."""
        segments = self.segments[queries.users]
        lists = RankedLists.empty(len(queries), depth)
        for segment in np.unique(segments):
            rows = np.flatnonzero(segments == segment)
            members = self.train.take((self.train_segments == segment) & (segment != NO_SEGMENT))
            counts = item_counts(members, len(self.population)) + self.population
            best = Popularity(counts).rank(queries.histories.take(rows), depth)
            lists.items[rows], lists.scores[rows] = best.items, best.scores
        return lists

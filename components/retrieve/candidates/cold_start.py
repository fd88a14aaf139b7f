"""Recommendations without a history: what is popular among users with a similar profile."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.retrieve.interactions import Histories, Ints, Queries
from components.retrieve.models.popularity import Popularity, item_counts
from components.retrieve.ranking import RankedLists, Recommender
from components.retrieve.tables import read_table

NO_SEGMENT = -1
AGE_BAND = 10  # years


def read_segments(users: Path, user_ids: Sequence[str], by: Sequence[str]) -> Ints:
    """Return each user's segment: a number per combination of USERS' columns `by`.

    `age` counts in bands of ten years. A user whose profile is missing or empty has NO_SEGMENT.
    """
    if not by:
        return np.full(len(user_ids), NO_SEGMENT)
    table = read_table(users, ["user_id", *by])
    rows = pc.index_in(pa.array(user_ids), value_set=table["user_id"])
    columns = [table[name].combine_chunks().take(rows) for name in by]
    columns = [pc.divide(c, AGE_BAND) if pa.types.is_integer(c.type) else c for c in columns]
    keys = pc.binary_join_element_wise(*(pc.fill_null(c.cast(pa.string()), "") for c in columns), "\x1f")
    numbers = pc.rank(keys, tiebreaker="dense").to_numpy().astype(np.int64)
    has_profile = np.logical_or.reduce([c.is_valid().to_numpy(zero_copy_only=False) for c in columns])
    return np.where(has_profile, numbers, NO_SEGMENT)


class SegmentPopularity(Recommender):
    """Items by their count in the user's segment, plus `prior` interactions of the whole population.

    Dirichlet smoothing, Zhai & Lafferty 2004. Without a segment: what is popular in the population.
    """

    def __init__(
        self, train: Histories, users: Ints, segments: Ints, num_items: int, prior: float = 100.0
    ) -> None:
        """`users` are the row numbers of `train`'s users, `segments` those of all users."""
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

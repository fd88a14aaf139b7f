"""Answers for users without any history: what is popular among people like them."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.retrieve.interactions import Examples, Histories, Ints, read_table
from components.retrieve.models.counts import Popularity, item_counts
from components.retrieve.ranking import Ranked, Recommender

NOBODY_KNOWN = -1
AGE_BAND = 10  # years


def read_segments(users: Path, user_ids: Sequence[str], by: Sequence[str]) -> Ints:
    """Return each user's segment: a number for each combination of the columns `by` of the table USERS.

    `age` counts in bands of ten years. A user whose profile is missing or empty is NOBODY_KNOWN.
    """
    if not by:
        return np.full(len(user_ids), NOBODY_KNOWN)
    table = read_table(users, ["user_id", *by])
    place = pc.index_in(pa.array(user_ids), value_set=table["user_id"])
    columns = [table[name].combine_chunks().take(place) for name in by]
    columns = [pc.divide(c, AGE_BAND) if pa.types.is_integer(c.type) else c for c in columns]
    keys = pc.binary_join_element_wise(*(pc.fill_null(c.cast(pa.string()), "") for c in columns), "\x1f")
    numbers = pc.rank(keys, tiebreaker="dense").to_numpy().astype(np.int64)
    known = np.logical_or.reduce([c.is_valid().to_numpy(zero_copy_only=False) for c in columns])
    return np.where(known, numbers, NOBODY_KNOWN)


class SegmentPopularity(Recommender):
    """Items by their count among the asker's segment, added to `prior` interactions of everybody's taste.

    A small segment so leans on the whole population, a large one on itself (Dirichlet smoothing, Zhai &
    Lafferty 2004); an unknown segment is answered by the population alone.
    """

    def __init__(
        self, train: Histories, users: Ints, segments: Ints, num_items: int, prior: float = 100.0
    ) -> None:
        """`users` are the row numbers of `train`'s users, `segments` those of all users."""
        self.train, self.of_row, self.segments = train, segments[users], segments
        self.num_items, self.prior = num_items, prior

    @cached_property
    def _everybody(self) -> npt.NDArray[np.float64]:
        counts = item_counts(self.train, self.num_items)
        return counts * (self.prior / max(1, counts.sum()))

    @cached_property
    def _rows_by_segment(self) -> tuple[Ints, Ints]:
        """Return the rows of `train` ordered by segment, and the segment of each: most logs need neither."""
        order = np.argsort(self.of_row, kind="stable")
        return order, self.of_row[order]

    def _counts(self, segment: int) -> Ints:
        if segment == NOBODY_KNOWN:
            return np.zeros(self.num_items, np.int64)
        rows, segments = self._rows_by_segment
        mine = slice(*np.searchsorted(segments, [segment, segment + 1]))
        return item_counts(self.train.take(rows[mine]), self.num_items)

    def answer(self, asked: Examples, depth: int) -> Ranked:
        """Return what is popular in each asker's segment, and not in the history."""
        mine = self.segments[asked.users]
        lists = Ranked.nothing(len(asked), depth)
        for segment in np.unique(mine):
            rows = np.flatnonzero(mine == segment)
            popular = Popularity(self._counts(int(segment)) + self._everybody)
            found = popular.rank(asked.histories.take(rows), depth)
            lists.items[rows], lists.scores[rows] = found.items, found.scores
        return lists

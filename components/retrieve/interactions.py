"""Users' interactions as integer arrays, and views of them as histories."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Rows = Ints | Bools | slice
EVERY_ROW = slice(None)
NO_SEGMENT = -1
NO_VALUE = -1
UNKNOWN_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Histories:
    """Slices of one flat array of item indices: history i is items[start[i]:end[i]], oldest first."""

    items: Ints
    start: Ints
    end: Ints

    @classmethod
    def from_lengths(cls, items: Ints, lengths: Ints) -> "Histories":
        """Return the histories that lie one after the other in `items`."""
        end = np.cumsum(lengths, dtype=np.int64)
        return cls(items, end - lengths, end)

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, row: int) -> Ints:
        return self.items[self.start[row] : self.end[row]]

    @property
    def lengths(self) -> Ints:
        """Items of each history."""
        return self.end - self.start

    def take(self, rows: Rows) -> "Histories":
        """Return the histories at `rows`, in that order."""
        return Histories(self.items, self.start[rows], self.end[rows])

    def last(self, count: int) -> "Histories":
        """Return each history cut to its latest `count` items."""
        return Histories(self.items, np.maximum(self.start, self.end - count), self.end)

    def windows(self, length: int) -> "Histories":
        """Return windows of 2 to `length` items, counted from each history's end.

        Neighbours share one item, so each pair of consecutive items lies in exactly one window.
        """
        if length < 2:
            raise ValueError(f"a window must have at least two items, got length {length}")
        counts = np.maximum(0, (self.lengths - 2) // (length - 1) + 1)
        rows, shift = Histories(self.items, np.zeros_like(counts), counts).positions()
        latest_first = np.lexsort((rows, shift))
        rows, shift = rows[latest_first], shift[latest_first]
        ends = self.end[rows] - shift * (length - 1)
        return Histories(self.items, np.maximum(self.start[rows], ends - length), ends)

    def prefixes(self, length: int) -> "Histories":
        """Return every prefix of two or more items, cut to its last `length` items."""
        rows, positions = self.positions()
        starts, ends = np.maximum(self.start[rows], positions + 1 - length), positions + 1
        has_pair = ends - starts >= 2
        return Histories(self.items, starts[has_pair], ends[has_pair])

    def flat(self) -> tuple[Ints, Ints]:
        """Return (rows, items): the items of all histories, and the row of each."""
        rows, positions = self.positions()
        return rows, self.items[positions]

    def positions(self) -> tuple[Ints, Ints]:
        """Return (rows, positions) of all items: their history, their index in `items`."""
        lengths = self.lengths
        shifts = np.repeat(self.end - np.cumsum(lengths), lengths)
        return np.repeat(np.arange(len(self)), lengths), np.arange(lengths.sum()) + shifts


@dataclass(frozen=True)
class Queries:
    """Histories to recommend for, and their labels: the items that followed."""

    users: Ints  # row numbers
    position: Ints  # of the first label in the user's sequence
    histories: Histories
    labels: Histories
    times: Ints  # of the request, in microseconds: when the first label came
    segments: Ints  # of users with a similar profile, or NO_SEGMENT

    @classmethod
    def of_requests(cls, histories: Histories, times: Ints, segments: Ints) -> "Queries":
        """Return queries whose labels nobody knows yet."""
        nothing = np.zeros(len(histories), np.int64)
        unknown = Histories(histories.items, nothing, nothing)
        return cls(np.arange(len(histories)), histories.lengths, histories, unknown, times, segments)

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: Rows) -> "Queries":
        """Return the queries at `rows`."""
        histories, labels = self.histories.take(rows), self.labels.take(rows)
        users, position, times, segments = (
            column[rows] for column in (self.users, self.position, self.times, self.segments)
        )
        return Queries(users, position, histories, labels, times, segments)


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Users' items in time order; users sorted by id; times in microseconds."""

    user_ids: list[str]
    items: Ints
    offsets: Ints
    train_end: Ints
    valid_end: Ints
    times: Ints  # of `items`
    is_strong: Bools | None = None  # whether each of `items` may be a label; None: all
    most_labels: int = 0  # of a window; 0: all
    segments: Ints | None = None  # of each user: a number per similar profile, or NO_SEGMENT; None: all that
    first_user: int = 0  # number of the first of these users among all

    def parts(self, size: int) -> Iterator["Sequences"]:
        """Yield the sequences of `size` users at a time."""
        for start in range(0, len(self.user_ids), size):
            rows = slice(start, start + size)
            yield Sequences(
                user_ids=self.user_ids[rows],
                items=self.items,
                offsets=self.offsets[start : start + size + 1],
                train_end=self.train_end[rows],
                valid_end=self.valid_end[rows],
                times=self.times,
                is_strong=self.is_strong,
                most_labels=self.most_labels,
                segments=None if self.segments is None else self.segments[rows],
                first_user=self.first_user + start,
            )

    def train_times(self, users: Rows = EVERY_ROW) -> Ints:
        """Return the times of the items of `train`, flat."""
        train = self.train(users)
        return Histories(self.times, train.start, train.end).flat()[1]

    def train(self, users: Rows = EVERY_ROW) -> Histories:
        """Return the train part of `users`: what a recommender may learn from."""
        start = self.offsets[:-1][users]
        return Histories(self.items, start, start + self.train_end[users])

    def train_queries(self, latest: int | Literal["all"]) -> Queries:
        """Return a query for each user's `latest` train items, the first of all excepted."""
        counts = np.maximum(self.train_end - 1, 0)
        if latest != "all":
            counts = np.minimum(counts, latest)
        users = np.repeat(np.arange(len(counts)), counts)
        position = np.arange(len(users)) - np.repeat(np.cumsum(counts) - self.train_end, counts)
        label = self.offsets[users] + position
        return self._queries(users, position, Histories(self.items, label, label + 1))

    def queries(self, split: str) -> Queries:
        """Return the queries of `split`, "valid" or "test", at most one per user.

        Labels are the first `most_labels` strong items of that part, its first item where none is strong.
        """
        first, last = {
            "valid": (self.train_end, self.valid_end),
            "test": (self.valid_end, np.diff(self.offsets)),
        }[split]
        users = np.flatnonzero(first < last)
        start, first, last = self.offsets[users], first[users], last[users]
        return self._queries(users, first, self._labels(Histories(self.items, start + first, start + last)))

    def _queries(self, users: Ints, position: Ints, labels: Histories) -> Queries:
        """Return the queries of `users` before the items at `position` of their sequences."""
        start = self.offsets[users]
        histories = Histories(self.items, start, start + position)
        times, segments = self.times[start + position], self.segments_of(users)
        return Queries(users + self.first_user, position, histories, labels, times, segments)

    def segments_of(self, users: Ints) -> Ints:
        """Return the segments of `users`."""
        return np.full(len(users), NO_SEGMENT) if self.segments is None else self.segments[users]

    def _labels(self, windows: Histories) -> Histories:
        """Return the labels of windows that hold at least one item each."""
        rows, positions = windows.positions()
        strong = np.ones(len(rows), bool) if self.is_strong is None else self.is_strong[positions]
        strong[positions == windows.start[rows]] |= ~np.logical_or.reduceat(strong, _starts(windows.lengths))
        before = np.cumsum(strong) - strong
        rank = before - before[_starts(windows.lengths)][rows]
        kept = strong & (rank < (self.most_labels or len(rows)))
        lengths = np.bincount(rows[kept], minlength=len(windows))
        return Histories.from_lengths(self.items[positions[kept]], lengths)


@dataclass(frozen=True, kw_only=True)
class Interactions(Sequences):
    """The sequences, and facts of the catalogue's items, which are sorted by id."""

    item_ids: list[str]
    tags: Histories  # tags and brand per item of the catalogue, as numbers of the sorted distinct tags
    brands: Ints  # per item of the catalogue, as numbers, or NO_VALUE
    categories: Ints  # the item's topic or leaf category, likewise
    created: Ints  # per item of the catalogue, or UNKNOWN_TIME
    texts: pa.Array | pa.ChunkedArray  # title, brand and tags per item of the catalogue, for an encoder

    @property
    def num_items(self) -> int:
        """Items of the catalogue."""
        return len(self.item_ids)

    @property
    def has_text(self) -> Bools:
        """Whether each item has a title, brand or tag: a text beyond its id."""
        said = pc.and_(pc.not_equal(self.texts, pa.array(self.item_ids)), pc.not_equal(self.texts, ""))
        return said.to_numpy(zero_copy_only=False)

    @property
    def kinds(self) -> Ints:
        """Numbers of each item's brand and category, [items, 2].

        They count from 1 in one table for both; 0 stands for none.
        """
        brands = np.where(self.brands == NO_VALUE, 0, self.brands + 1)
        categories = np.where(self.categories == NO_VALUE, 0, self.categories + 1 + brands.max(initial=0))
        return np.stack([brands, categories], axis=1)

    @property
    def is_described(self) -> Bools:
        """Whether anything but its id and time is known of each item."""
        return self.has_text | self.kinds.any(axis=1)


def _starts(lengths: Ints) -> Ints:
    """Return where rows of these `lengths` begin in their flat list."""
    return np.cumsum(lengths) - lengths

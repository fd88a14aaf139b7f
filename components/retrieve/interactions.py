"""The interactions as integers: one flat array of items, and views of it as histories."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from components.shared.errors import DataError

Ints = npt.NDArray[np.int64]
UNKNOWN_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Histories:
    """Slices of one flat array of item indices: history i is items[start[i]:end[i]], oldest first."""

    items: Ints
    start: Ints
    end: Ints

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, row: int) -> Ints:
        return self.items[self.start[row] : self.end[row]]

    def __iter__(self) -> Iterator[Ints]:
        return (self[row] for row in range(len(self)))

    @property
    def lengths(self) -> Ints:
        """Items of each history."""
        return self.end - self.start

    def take(self, rows: npt.NDArray) -> "Histories":
        """Return the histories at `rows` (indices or a mask), in that order."""
        return Histories(self.items, self.start[rows], self.end[rows])

    def last(self, count: int) -> "Histories":
        """Return each history cut to its latest `count` items."""
        return Histories(self.items, np.maximum(self.start, self.end - count), self.end)

    def windows(self, length: int) -> "Histories":
        """Return every history cut into windows of at most `length` items, counted from its end.

        Neighbouring windows share one item, so that each transition lies in exactly one window; what
        holds no transition (fewer than two items) is left out.
        """
        _check_length(length)
        starts, ends = [], []
        start, end = self.start, self.end
        while len(end):
            cut = np.maximum(start, end - length)
            whole = end - cut >= 2
            starts.append(cut[whole])
            ends.append(end[whole])
            rest = cut > start
            start, end = start[rest], cut[rest] + 1
        if not starts:
            return self
        return Histories(self.items, np.concatenate(starts), np.concatenate(ends))

    def prefixes(self, length: int) -> "Histories":
        """Return for every item but the first of each history, in their order, it and what came before it.

        At most `length` items, the latest ones.
        """
        _check_length(length)
        rows, places = self._places()
        starts, ends = np.maximum(self.start[rows], places + 1 - length), places + 1
        whole = ends - starts >= 2
        return Histories(self.items, starts[whole], ends[whole])

    def flat(self) -> tuple[Ints, Ints]:
        """Return (rows, items): each item of every history beside the row it belongs to."""
        rows, places = self._places()
        return rows, self.items[places]

    def _places(self) -> tuple[Ints, Ints]:
        """Return (rows, places): where in `items` each item of every history lies."""
        lengths = self.lengths
        rows = np.repeat(np.arange(len(self)), lengths)
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return rows, np.repeat(self.start, lengths) + within


def _check_length(length: int) -> None:
    if length < 2:
        raise ValueError(f"a piece needs two items to hold a transition, got length {length}")


@dataclass(frozen=True)
class Examples:
    """Questions with their answers: what follows `histories[i]` are the items `labels[i]`.

    `position` is the first label's place in the user's `item_ids`, `users` are row numbers of users.
    """

    users: Ints
    position: Ints
    histories: Histories
    labels: Histories

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: npt.NDArray) -> "Examples":
        """Return the examples at `rows` (indices or a mask)."""
        return Examples(
            self.users[rows], self.position[rows], self.histories.take(rows), self.labels.take(rows)
        )


def _no_ints() -> Ints:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Interactions:
    """Every user's items in time order. Users are sorted by id, items are the catalogue sorted by id.

    Attributes:
        tags: of each item, its brand among them, as numbers of the sorted distinct tags.
        times: of each interaction, in microseconds; empty = unknown.
        created: when each item appeared, in microseconds, UNKNOWN_TIME where nobody knows.
        texts: what an encoder reads of each item: title, brand, tags.
    """

    user_ids: list[str]
    item_ids: list[str]
    items: Ints
    offsets: Ints
    train_end: Ints
    valid_end: Ints
    tags: Histories
    times: Ints = field(default_factory=_no_ints)
    created: Ints = field(default_factory=_no_ints)
    texts: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))

    @property
    def num_items(self) -> int:
        """Items of the catalogue."""
        return len(self.item_ids)

    def asked_at(self, asked: Examples) -> Ints:
        """Return the time of each question's first label, in microseconds."""
        return self.times[self.offsets[asked.users] + asked.position]

    def train(self, users: Ints | None = None) -> Histories:
        """Return the train part of `users` (all by default): what a recommender may learn from."""
        start, train_end = self.offsets[:-1], self.train_end
        if users is not None:
            start, train_end = start[users], train_end[users]
        return Histories(self.items, start, start + train_end)

    def examples(self, split: str) -> Examples:
        """Return the questions of `split`, a user at most one, users without one left out.

        train: the last train item, asked with at least one item before it; valid and test: all items of
        that part, asked with everything before it (which may be nothing under a temporal split).
        """
        start, length = self.offsets[:-1], np.diff(self.offsets)
        if split == "train":
            first, last = self.train_end - 1, self.train_end
            asked = first >= 1
        elif split == "valid":
            first, last = self.train_end, self.valid_end
            asked = first < last
        elif split == "test":
            first, last = self.valid_end, length
            asked = first < last
        else:
            raise ValueError(f"unknown split '{split}'")
        users = np.flatnonzero(asked)
        histories = Histories(self.items, start[users], (start + first)[users])
        labels = Histories(self.items, (start + first)[users], (start + last)[users])
        return Examples(users, first[users], histories, labels)


def load(sequences: Path, catalogue: Path) -> Interactions:
    """Read the tables SEQUENCES and CATALOGUE; the order of their rows and files does not matter.

    Raises:
        DataError: a missing or empty table, a user or item twice, an item that the catalogue lacks, or
            split positions outside the sequence.
    """
    wanted = ["item_id", "tags", "title", "brand", "created_at"]
    items_table = _sorted(read_table(catalogue, wanted), "item_id")
    item_ids = _column(items_table, "item_id")
    _refuse_twice(item_ids, catalogue, "item_id")
    table = read_table(sequences, ["user_id", "item_ids", "timestamps", "train_end", "valid_end"])
    table = _sorted(table, "user_id")
    _refuse_twice(_column(table, "user_id"), sequences, "user_id")
    lists = _column(table, "item_ids")
    items = pc.index_in(lists.flatten(), value_set=item_ids)
    if items.null_count:
        unknown = lists.flatten().filter(pc.is_null(items))[0].as_py()
        raise DataError(f"{sequences}: item '{unknown}' is not in the catalogue {catalogue}; rebuild both")
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    ends = {name: _column(table, name).to_numpy().astype(np.int64) for name in ("train_end", "valid_end")}
    wrong = (ends["train_end"] < 0) | (ends["train_end"] > ends["valid_end"]) | (ends["valid_end"] > lengths)
    if wrong.any():
        user = _column(table, "user_id")[int(np.flatnonzero(wrong)[0])]
        raise DataError(f"{sequences}: user '{user}' has split positions outside its sequence")
    times = _column(table, "timestamps")
    if len(apart := np.flatnonzero(times.value_lengths().to_numpy(zero_copy_only=False) != lengths)):
        user = _column(table, "user_id")[int(apart[0])]
        raise DataError(f"{sequences}: user '{user}' has not as many timestamps as item_ids")
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Interactions(
        user_ids=_column(table, "user_id").to_pylist(),
        item_ids=item_ids.to_pylist(),
        items=items.to_numpy().astype(np.int64),
        offsets=offsets,
        tags=_tags(_column(items_table, "tags"), _column(items_table, "brand")),
        times=microseconds(times.flatten(), sequences, "timestamps").to_numpy(zero_copy_only=False),
        created=pc.fill_null(
            microseconds(_column(items_table, "created_at"), catalogue, "created_at"), UNKNOWN_TIME
        ).to_numpy(),
        texts=_texts(items_table),
        **ends,
    )


def microseconds(times: pa.Array, path: Path, column: str) -> pa.Array:
    """Return times of any unit as whole microseconds. Raises DataError: no times, or out of range."""
    if not pa.types.is_timestamp(times.type):
        raise DataError(f"{path}: column '{column}' holds {times.type}, not times; rebuild the table")
    cut = pc.CastOptions(pa.timestamp("us", times.type.tz), allow_time_truncate=True)
    try:
        return pc.cast(times, options=cut).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: column '{column}' holds a time out of range ({error})") from error


def _texts(items: pa.Table) -> pa.Array:
    """Return title, brand and tags of each item as one text."""
    titles = _column(items, "title")
    titles = pc.if_else(pc.equal(titles, ""), _column(items, "item_id"), titles)  # a text is never empty
    more = (_column(items, "brand"), pc.binary_join(_column(items, "tags"), ", "))
    said = (pc.if_else(pc.equal(part, ""), pa.scalar(None, pa.string()), part) for part in more)
    return pc.binary_join_element_wise(titles, *said, ". ", null_handling="skip")


def _tags(lists: pa.Array, brands: pa.Array) -> Histories:
    """Return each item's distinct tags and its brand, if any, as numbers."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    branded = pc.fill_null(pc.not_equal(brands, ""), False).to_numpy(zero_copy_only=False)
    names = pa.concat_arrays([lists.flatten(), brands.filter(pa.array(branded))])
    numbers = pc.rank(names, tiebreaker="dense").to_numpy().astype(np.int64) - 1
    rows = np.concatenate([np.repeat(np.arange(len(lengths)), lengths), np.flatnonzero(branded)])
    width = int(numbers.max(initial=0)) + 1
    rows, numbers = np.divmod(np.unique(rows * width + numbers), width)
    ends = np.searchsorted(rows, np.arange(len(lengths)), side="right")
    return Histories(numbers, np.concatenate([[0], ends[:-1]]), ends)


def _sorted(table: pa.Table, key: str) -> pa.Table:
    return table.take(pc.sort_indices(table, sort_keys=[(key, "ascending")])).combine_chunks()


def read_table(path: Path, columns: list[str]) -> pa.Table:
    """Return `columns` of the Parquet table at `path`. Raises DataError: missing, unreadable, no rows."""
    if not path.exists():
        raise DataError(f"{path}: no such table; run the step before this one")
    try:
        dataset = ds.dataset(str(path), format="parquet")
        if missing := [name for name in columns if name not in dataset.schema.names]:
            raise DataError(f"{path}: no column '{missing[0]}'")
        table = dataset.to_table(columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet table ({error})") from error
    if not table.num_rows:
        raise DataError(f"{path}: the table has no rows, so there is nothing to learn from")
    return table


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _refuse_twice(ids: pa.Array, path: Path, column: str) -> None:
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise DataError(f"{path}: {column} '{twice[0]['values']}' stands in {twice[0]['counts']} rows")

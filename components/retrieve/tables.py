"""Tables of the step: sequences and catalogue as Interactions, ranked lists as CANDIDATES and RANKINGS."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from components.retrieve.interactions import UNKNOWN_TIME, Histories, Interactions, Ints, Queries, Sequences
from components.retrieve.model_config import TEXT_PARTS, TextPart
from components.retrieve.ranking import RankedLists
from components.shared.errors import DataError
from components.shared.labels import WHOLE_WINDOW, LabelSettings

COLUMNS = ("user_id", "item_ids", "timestamps", "train_end", "valid_end", "engagement")
"""The columns of SEQUENCES that are read."""
CHUNK = 1 << 16
"""Rows of a chunk of the sorted catalogue: their text stays below the 2 GiB that int32 offsets reach."""


def load(
    sequences: Path,
    catalogue: Path,
    labels: LabelSettings = WHOLE_WINDOW,
    text_parts: tuple[TextPart, ...] = TEXT_PARTS,
) -> Interactions:
    """Return the tables SEQUENCES and CATALOGUE, whatever the order of their rows.

    `text_parts` are what an item's text holds. Raises DataError.
    """
    items = _sorted(read_table(catalogue, ["item_id", "tags", "title", "topic", "brand", "created_at"]))
    item_ids = items["item_id"].to_pylist()
    _check_unique(item_ids, "item_id", catalogue)
    # Ids become integers batch by batch: their text is most of the table.
    batches = _read_batches(sequences, list(COLUMNS))
    users = _by_user([sequences_of(batch, items["item_id"], sequences, labels) for batch in batches])
    _check_unique(users.user_ids, "user_id", sequences)
    created = microseconds(items["created_at"], catalogue, "created_at")
    return Interactions(
        **vars(users),
        item_ids=item_ids,
        brands=numbers(items["brand"]),
        categories=numbers(items["topic"]),
        tags=_tags(items["tags"], items["brand"]),
        created=_ints(pc.fill_null(created, UNKNOWN_TIME)),
        texts=_texts(items, text_parts),
    )


def sequences_of(
    users: pa.RecordBatch, item_ids: pa.Array, source: str | Path, labels: LabelSettings
) -> Sequences:
    """Return the sequences in COLUMNS of SEQUENCES, items by their place in `item_ids`. Raises DataError."""
    user_ids, lists, times = users["user_id"], users["item_ids"], users["timestamps"]
    indices = pc.index_in(lists.flatten(), value_set=item_ids)
    if indices.null_count:
        unknown = lists.flatten().filter(pc.is_null(indices))[0]
        raise DataError(f"{source}: item '{unknown}' is not in the catalogue; rebuild both")
    lengths, train_end, valid_end = map(
        _ints, (lists.value_lengths(), users["train_end"], users["valid_end"])
    )
    in_order = (train_end >= 0) & (train_end <= valid_end) & (valid_end <= lengths)
    if not in_order.all():
        user = user_ids[int(in_order.argmin())]
        raise DataError(f"{source}: user '{user}' has split positions outside its sequence")
    return Sequences(
        user_ids=user_ids.to_pylist(),
        items=_ints(indices),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        train_end=train_end,
        valid_end=valid_end,
        times=_ints(microseconds(times.flatten(), source, "timestamps")),
        is_strong=users["engagement"].flatten().to_numpy() >= labels.min_engagement,
        most_labels=labels.most,
    )


def _by_user(parts: list[Sequences]) -> Sequences:
    """Return the users of all `parts`, sorted by id."""

    def joined(name: str) -> npt.NDArray:
        return np.concatenate([getattr(part, name) for part in parts])

    user_ids = [user for part in parts for user in part.user_ids]
    order = pc.sort_indices(pa.array(user_ids, pa.large_string())).to_numpy()
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    positions = Histories.from_lengths(np.zeros(0, np.int64), lengths).take(order).positions()[1]
    return Sequences(
        user_ids=[user_ids[row] for row in order.tolist()],
        items=joined("items")[positions],
        offsets=np.concatenate([[0], np.cumsum(lengths[order])]),
        train_end=joined("train_end")[order],
        valid_end=joined("valid_end")[order],
        times=joined("times")[positions],
        is_strong=joined("is_strong")[positions],
        most_labels=parts[0].most_labels,
    )


def _read_batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield `columns` of the Parquet table at `path`. Raises DataError."""
    rows = 0
    try:
        for batch in ds.dataset(str(path), format="parquet").to_batches(columns=columns):
            rows += batch.num_rows
            yield batch
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet table ({error}); run the step before") from error
    if not rows:
        raise DataError(f"{path}: the table has no rows, so there is nothing to learn from")


def read_table(path: Path, columns: list[str]) -> pa.Table:
    """Return `columns` of the Parquet table at `path`. Raises DataError."""
    return pa.Table.from_batches(_read_batches(path, columns))


def read_profiles(users: Path, user_ids: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Return USERS' `columns` of each of `user_ids`, nulls where a user has no row."""
    if not columns:
        return pd.DataFrame(index=list(user_ids))
    table = read_table(users, ["user_id", *columns]).to_pandas().drop_duplicates("user_id")
    return table.set_index("user_id").reindex(list(user_ids))


def read_items(catalogue: Path) -> pa.Table:
    """Return what prompts show of all items, sorted by id as in `load`."""
    return _sorted(read_table(catalogue, ["item_id", "title", "topic", "brand", "tags", "description"]))


def _sorted(items: pa.Table) -> pa.Table:
    """Return `items` sorted by id, in chunks of CHUNK rows."""
    # Arrow puts a column in one array to sort it: with int32 offsets it fails above 2 GiB of text.
    schema = items.schema
    large = pa.schema([field.with_type(_large(field.type)) for field in schema])
    items = items.cast(large).combine_chunks()
    order = pc.sort_indices(items["item_id"])
    rows = (order.slice(start, CHUNK) for start in range(0, len(order), CHUNK))
    return pa.concat_tables(items.take(part).cast(schema) for part in rows)


def _large(kind: pa.DataType) -> pa.DataType:
    """Return `kind` with int64 offsets."""
    if pa.types.is_list(kind):
        return pa.large_list(kind.value_field.with_type(_large(kind.value_type)))
    return pa.large_string() if pa.types.is_string(kind) else kind


def _check_unique(ids: list[str], column: str, path: Path) -> None:
    """Raise DataError if one of the sorted `ids` appears twice."""
    for one, other in pairwise(ids):
        if one == other:
            raise DataError(f"{path}: {column} '{one}' appears in more than one row")


def _ints(array: pa.Array) -> Ints:
    return array.to_numpy(zero_copy_only=False).astype(np.int64)


def microseconds(times: pa.Array, path: str | Path, column: str) -> pa.Array:
    """Return times as whole microseconds. Raises DataError."""
    if not pa.types.is_timestamp(times.type):
        raise DataError(f"{path}: column '{column}' holds {times.type}, not times; rebuild the table")
    options = pc.CastOptions(pa.timestamp("us", times.type.tz), allow_time_truncate=True)
    try:
        return pc.cast(times, options=options).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: column '{column}' holds a time out of range ({error})") from error


def _texts(items: pa.Table, parts: tuple[TextPart, ...]) -> pa.ChunkedArray:
    """Return the `parts` of each item as one text; its id stands for no title."""
    texts = {
        "title": pc.if_else(pc.equal(items["title"], ""), items["item_id"], items["title"]),
        "brand": items["brand"],
        "tags": pc.binary_join(items["tags"], ", "),
    }
    none = pa.scalar(None, pa.string())
    chosen = (pc.if_else(pc.equal(texts[part], ""), none, texts[part]) for part in parts)
    # pyarrow leaves out rows of nulls alone, hence one more part, cut off again.
    joined = pc.binary_join_element_wise(pa.scalar(""), *chosen, ". ", null_handling="skip")
    return pc.utf8_slice_codeunits(joined, len(". "))


def numbers(names: pa.ChunkedArray) -> Ints:
    """Return a number per distinct name, NO_VALUE for none."""
    return pd.factorize(names.to_pandas().replace("", None), sort=True)[0].astype(np.int64)


def _tags(tags: pa.ChunkedArray, brands: pa.ChunkedArray) -> Histories:
    """Return each item's distinct tags and its brand, if any, as numbers."""
    names = pd.concat([tags.to_pandas().explode(), brands.to_pandas().replace("", None)]).dropna()
    pairs = pd.DataFrame({"item": names.index, "tag": pd.factorize(names, sort=True)[0]})
    pairs = pairs.drop_duplicates().sort_values(["item", "tag"])
    lengths = np.bincount(pairs["item"], minlength=len(tags))
    return Histories.from_lengths(pairs["tag"].to_numpy(), lengths)


@dataclass(frozen=True)
class RowMaker:
    """Makes rows of CANDIDATES and RANKINGS for the users of `part`."""

    part: Sequences
    item_ids: pa.Array

    @cached_property
    def user_ids(self) -> pa.Array:
        """The users' ids."""
        return pa.array(self.part.user_ids, pa.string())

    def rows(
        self,
        schema: pa.Schema,
        split: str,
        queries: Queries,
        lists: RankedLists,
        depth: int,
        model: str = "",
        fold: Ints | int = -1,
        teacher: npt.NDArray[np.float32] | None = None,
    ) -> pa.Table:
        """Return the first `depth` items per query; `fold` was held out of training (-1: none).

        `teacher` [queries, depth] are these items' scores by another model.
        """
        items, scores = lists.items[:, :depth], lists.scores[:, :depth]
        real = items >= 0
        offsets = np.concatenate([[0], np.cumsum(real.sum(1))]).astype(np.int32)
        columns = {
            "model": pa.repeat(model, len(queries)),
            "user_id": self.user_ids.take(pa.array(queries.users - self.part.first_user)),
            "split": pa.repeat(split, len(queries)),
            "position": queries.position.astype(np.int32),
            "item_ids": pa.ListArray.from_arrays(offsets, self.item_ids.take(pa.array(items[real]))),
            "scores": pa.ListArray.from_arrays(offsets, scores[real]),
            "teacher": pa.nulls(len(queries), pa.list_(pa.float32()))
            if teacher is None
            else pa.ListArray.from_arrays(offsets, teacher[real]),
            "fold": np.broadcast_to(fold, len(queries)).astype(np.int32),
        }
        return pa.table([columns[name] for name in schema.names], schema=schema)

"""The catalogue: cleaned titles that are never empty, one topic per item, popularity of the train part."""

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from components.etl.sequences.build import single
from components.shared.prompting.text import clean

DESCRIPTION_CHARS = 500
"""Characters of a description that the catalogue keeps: prompts show fewer."""


def with_train_counts(items: DataFrame, sequences: DataFrame) -> DataFrame:
    """Return the columns of `items` that the catalogue needs, and `train_count` (null: none).

    `train_count` is the number of sequences whose `item_ids[:train_end]` contain the item.
    """
    # explode + count: partial sums first, then a shuffle of at most one row per item and task.
    counts = (
        sequences.select(F.explode(F.slice("item_ids", F.lit(1), F.col("train_end"))).alias("item_id"))
        .groupBy("item_id")
        .agg(F.count("*").alias("train_count"))
    )
    wanted = items.select("item_id", "title", "tags", "categories", "brand", "description", "created_at")
    return wanted.join(counts, "item_id", "left")


def catalogue_rows(items: pa.Table, keep_emoji: bool = True) -> pa.Table:
    """Return the CATALOGUE columns of `items` (raw columns and train_count).

    The title falls back to brand and leaf category, then to the item id. The topic is the first tag,
    else the leaf (last) category, else "".
    """
    tags, categories = (_clean_lists(items.column(name), keep_emoji) for name in ("tags", "categories"))
    leaf = [names[-1] if names else "" for names in categories]
    brand = clean(single(items.column("brand")), keep_emoji)
    fallback = [" ".join(filter(None, pair)) for pair in zip(brand.to_pylist(), leaf, strict=True)]
    ids = single(items.column("item_id"))
    title, description = (clean(single(items.column(name)), keep_emoji) for name in ("title", "description"))
    return pa.table(
        {
            "item_id": ids,
            "title": pc.coalesce(_no_empty(title), _no_empty(pa.array(fallback, pa.string())), ids),
            "topic": pa.array(
                [own[0] if own else last for own, last in zip(tags, leaf, strict=True)], pa.string()
            ),
            "tags": pa.array(
                [list(dict.fromkeys(own + more)) for own, more in zip(tags, categories, strict=True)],
                pa.list_(pa.string()),
            ),
            "brand": _no_empty(brand),
            "description": _no_empty(pc.utf8_slice_codeunits(description, 0, DESCRIPTION_CHARS)),
            "created_at": items.column("created_at"),
            "train_count": pc.fill_null(items.column("train_count"), 0),
        }
    )


def _clean_lists(column: pa.ChunkedArray, keep_emoji: bool) -> list[list[str]]:
    """Return each row's cleaned, non-empty names; null gives none."""
    lists = single(column)
    names = iter(clean(lists.flatten().cast(pa.string()), keep_emoji).to_pylist())
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_pylist()
    return [[name for name in (next(names) for _ in range(length)) if name] for length in lengths]


def _no_empty(texts: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)

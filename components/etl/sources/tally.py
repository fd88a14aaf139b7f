"""Counts of rows read, refused and mended per raw table, each kind with its first example by file and row."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from components.etl.contracts import SAMPLE_CHARS
from components.etl.sources.faults import FAULT, ROW, as_json
from components.etl.sources.readers import BLOCK_BIT, FILE_BIT, PLACE, UNREAD, file_of
from components.shared.artifacts.raw_tables import Source

GROUPS = pa.schema(
    [
        ("block", pa.int64()),
        ("fault", pa.string()),
        ("fields", pa.string()),
        ("count", pa.int64()),
        ("place", pa.int64()),
        ("row", pa.string()),
        ("unread", pa.list_(pa.string())),
    ]
)
"""Rows of one block, fault and unread fields: their number, and the first of them."""


@dataclass(frozen=True)
class Tally:
    """Rows of a table, refused ones by reason, unreadable values by field, and examples."""

    rows: int
    refused: dict[str, int]
    unread: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)


def groups(frame: DataFrame) -> DataFrame:
    """Return the groups of `frame`'s rows (columns of GROUPS) by block, fault and unread fields."""
    row = F.when(F.col(FAULT).isNotNull(), as_json(frame))
    return _grouped(
        frame.select(
            F.shiftright(PLACE, BLOCK_BIT).alias("block"),
            F.col(FAULT).alias("fault"),
            F.concat_ws(",", F.transform(UNREAD, lambda text: F.substring_index(text, "=", 1))).alias(
                "fields"
            ),
            F.lit(1).cast("long").alias("count"),
            PLACE,
            row.alias(ROW),
            UNREAD,
        )
    )


def combined(parts: DataFrame) -> DataFrame:
    """Return the groups that several tasks found, as `groups` does."""
    return _grouped(parts)


def _grouped(rows: DataFrame) -> DataFrame:
    return rows.groupBy("block", "fault", "fields").agg(
        F.sum("count").alias("count"),
        F.min_by(ROW, PLACE).alias(ROW),
        F.min_by(UNREAD, PLACE).alias(UNREAD),
        F.min(PLACE).alias(PLACE),
    )


def batch_groups(rows: pa.Table) -> pa.RecordBatch:
    """Return the groups (columns of GROUPS) of a task's `rows`."""
    unread = rows.column(UNREAD)
    texts = unread.to_pylist() if unread.null_count < len(rows) else None
    fields = pa.array([_fields(found) for found in texts]) if texts else pa.repeat("", len(rows))
    keyed = pa.table(
        {
            "block": pc.shift_right(rows.column(PLACE), BLOCK_BIT),
            "fault": rows.column(FAULT),
            "fields": fields,
            PLACE: rows.column(PLACE),
        }
    )
    found = keyed.group_by(["block", "fault", "fields"]).aggregate([(PLACE, "count"), (PLACE, "min")])
    records = []
    for group in found.to_pylist():
        count, place = group.pop(f"{PLACE}_count"), group.pop(f"{PLACE}_min")
        example = {}
        if group["fault"] or group["fields"]:
            at = pc.index(rows.column(PLACE), place).as_py()
            example = {"row": rows.column(ROW)[at].as_py(), "unread": texts and texts[at]}
        records.append({**group, "count": count, "place": place, **example})
    return pa.RecordBatch.from_pylist(records, schema=GROUPS)


def _fields(unread: list[str] | None) -> str:
    return ",".join(text.split("=", 1)[0] for text in unread or ())


def tally(
    source: Source, found: Iterable[Row], whole: Iterable[Row] = (), repeats: Iterable[Row] = ()
) -> Tally:
    """Return the tally of `found` groups; `whole` are those of all rows, if different.

    `repeats` (count, place, row) are the events that repeat one; `found` counts them as valid rows.
    """
    found, refused, unread = list(found), Counter[str](), Counter[str]()
    first: dict[str, tuple[int, str]] = {}
    for group in sorted(found, key=lambda group: group["place"]):
        if group["fault"]:
            refused[group["fault"]] += group["count"]
            first.setdefault(group["fault"], (group["place"], group["row"] or ""))
        for text in group["unread"] or ():
            name = text.split("=", 1)[0]
            unread[name] += group["count"]
            first.setdefault(UNREAD + name, (group["place"], text))
    for group in repeats:
        refused["duplicate"] += group["count"]
        first["duplicate"] = group["place"], group["row"]
    starts: dict[int, int] = {}
    counts = Counter[int]()
    for group in whole or found:
        block = group["block"]
        starts[block] = min(group["place"], starts.get(block, group["place"]))
        counts[block] += group["count"]
    return Tally(
        rows=counts.total(),
        refused=dict(sorted(refused.items())),
        unread=dict(sorted(unread.items())),
        examples={
            kind: f"{_location(source, place, starts, counts)}: {text[:SAMPLE_CHARS]}"
            for kind, (place, text) in first.items()
        },
    )


def _location(source: Source, place: int, starts: Mapping[int, int], counts: Mapping[int, int]) -> str:
    """Return file and row (from 1, without a header) of the row at `place`."""
    row = place & ((1 << FILE_BIT) - 1)
    if source.format != "parquet":  # numbered within its block, after whatever else Spark's task has read
        block = place >> BLOCK_BIT
        number = place >> FILE_BIT
        earlier = (b for b in counts if b < block and b >> (FILE_BIT - BLOCK_BIT) == number)
        row = sum(counts[b] for b in earlier) + place - starts[block]
    return f"{source.folder.shown(file_of(source, place))}, row {row + 1:,}"

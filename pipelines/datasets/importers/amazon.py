"""Importer of the official Amazon 2014 files: 5-core reviews (JSON lines) and metadata (Python literals)."""

import ast
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.shared.artifacts.outputs import atomic_folder
from components.shared.errors import DataError
from data_contracts import tables
from pipelines.datasets.importers.report import ImportReport


def import_amazon(reviews: Path, meta: Path, out: Path) -> ImportReport:
    """Write users, items and events of one Amazon category to the folder `out`, whole or not at all.

    A review is a `purchase`; its `ordinal` is the line number, because times have the granularity of
    a day and ties keep the order of the file. Items are those with a review.

    Raises:
        DataError: a file is missing, a corrupt gzip, or a line cannot be read; names file and line.
    """
    events = _events(Path(reviews))
    wanted = dict.fromkeys(events.column("item_id").to_pylist())
    users = pa.table({"user_id": events.column("user_id").unique().sort()})
    found = {row["asin"]: row for row in _lines(Path(meta), _literal) if row.get("asin") in wanted}
    items = _items(list(wanted), found)
    with atomic_folder(Path(out)) as partial:
        pq.write_table(_typed(users, tables.USERS), partial / "users.parquet")
        pq.write_table(items, partial / "items.parquet")
        pq.write_table(events, partial / "events.parquet")
    return ImportReport(
        users=users.num_rows,
        items=items.num_rows,
        events=events.num_rows,
        without_title=items.column("title").null_count,
    )


def _events(reviews: Path) -> pa.Table:
    users: list[str] = []
    items: list[str] = []
    times: list[int] = []
    for row in _lines(reviews, json.loads):
        user, item, time = (row.get(name) for name in ("reviewerID", "asin", "unixReviewTime"))
        seconds = str(time).removesuffix(".0")
        if not (isinstance(user, str) and isinstance(item, str) and re.fullmatch(r"-?[0-9]{1,11}", seconds)):
            raise DataError(
                f"{reviews}: review {len(users) + 1} has reviewerID {user!r}, asin {item!r}, unixReviewTime "
                f"{time!r}; expected two texts and whole seconds, as in the official 5-core reviews"
            )
        users.append(user)
        items.append(item)
        times.append(int(seconds) * 1_000_000)
    if not users:
        raise DataError(f"{reviews}: no reviews in it; is the download complete?")
    columns = {
        "user_id": users,
        "item_id": items,
        "action": pa.repeat("purchase", len(users)),
        "dwell_seconds": pa.nulls(len(users), pa.float64()),
        "timestamp": pa.array(times).cast(tables.TIMESTAMP),
        "ordinal": range(len(users)),
    }
    return pa.table(columns, schema=tables.EVENTS)


def _items(wanted: list[str], found: dict[str, dict[str, Any]]) -> pa.Table:
    rows = []
    for asin in wanted:
        row = found.get(asin, {})
        # The last category is the leaf of the longest path, which is what history is grouped by.
        paths = sorted(row.get("categories") or [[]], key=len)
        names = list(dict.fromkeys(name for path in paths for name in path))
        leaf = paths[-1][-1:]
        categories = [name for name in names if name not in leaf] + leaf
        rows.append(
            {
                "item_id": asin,
                "title": row.get("title"),
                "description": row.get("description"),
                "categories": categories,
                "brand": row.get("brand"),
            }
        )
    return pa.Table.from_pylist(rows, schema=tables.ITEMS)


def _lines(path: Path, read: Callable[[str], Any]) -> Iterator[Any]:
    number = 0
    try:
        with _open(path) as lines:
            for line in lines:
                number += 1
                if line.strip():
                    yield _mapping(read(line))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path}: unreadable after line {number} ({error}); download it again") from error
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path}: line {number} is not in the official format ({type(error).__name__}); expected one "
            "object a line, JSON in the reviews and a Python literal in the metadata"
        ) from error


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {type(value).__name__}")
    return value


def _open(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _literal(line: str) -> Any:
    return ast.literal_eval(line)


def _typed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table.column(f.name).cast(f.type)
        if f.name in table.column_names
        else pa.nulls(table.num_rows, f.type)
        for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)

"""Importer of the official Amazon 2014 files: 5-core reviews (JSON lines) and metadata (Python literals)."""

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_contracts import tables
from pipelines.datasets.importers.output import Faults, ImportReport, read_lines, text_or_none, write_tables


def import_amazon(reviews: Path, meta: Path, out: Path) -> ImportReport:
    """Write one Amazon category's users, items and events to `out`, whole or not at all.

    Every review is a `purchase`, also an unusable one: its unusable fields are null, so that the quarantine
    of a run counts it. `ordinal` is the number of the review, because times have the granularity of a day
    and ties keep the order of the file. Items are those with a review; what is unusable of their metadata is
    null. Faults are counted, and logged with an example.
    Raises DataError: a file is missing or a corrupt gzip, or no review is usable.
    """
    faults = Faults()
    events = _events(Path(reviews), faults)
    users = pa.table({"user_id": events["user_id"].drop_null().unique().sort()})
    reviewed = events["item_id"].drop_null().unique().to_pylist()
    items = _items(reviewed, Path(meta), faults)
    return write_tables(out, faults, users, items, events)


def _events(reviews: Path, faults: Faults) -> pa.Table:
    users: list[str | None] = []
    items: list[str | None] = []
    times: list[int | None] = []
    for number, row in _rows(reviews, "review", json.loads, faults):
        users.append(text_or_none(row.get("reviewerID")))
        items.append(text_or_none(row.get("asin")))
        seconds = str(row.get("unixReviewTime")).removesuffix(".0")
        times.append(int(seconds) * 1_000_000 if re.fullmatch(r"-?[0-9]{1,11}", seconds) else None)
        for name, column in (("reviewerID", users), ("asin", items), ("unixReviewTime", times)):
            if row and column[-1] is None:
                faults.add(f"review without a usable {name}", reviews, number, row)
    expected = "reviewerID, asin and unixReviewTime (whole seconds), as in the official 5-core reviews"
    events = pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "item_id": pa.array(items, pa.string()),
            "action": pa.repeat("purchase", len(users)),
            "timestamp": pa.array(times, pa.int64()).cast(tables.TIMESTAMP),
            "ordinal": range(len(users)),
        }
    )
    faults.check_usable(reviews, len(events.drop_null()), expected)
    return events


def _items(reviewed: list[str], meta: Path, faults: Faults) -> pa.Table:
    wanted, found = set(reviewed), {}
    for number, row in _rows(meta, "metadata", ast.literal_eval, faults):
        asin = text_or_none(row.get("asin"))
        if asin in wanted:
            texts = {name: text_or_none(row.get(name)) for name in ("title", "brand")}
            paths = row.get("categories") or []
            is_nested = isinstance(paths, list) and all(isinstance(path, list) for path in paths)
            if not is_nested or any(row.get(name) and not text for name, text in texts.items()):
                faults.add("metadata field of a wrong type", meta, number, row)
            found[asin] = {"item_id": asin, **texts, "categories": _categories(paths if is_nested else [])}
    rows = [found.get(asin, {"item_id": asin, "categories": []}) for asin in reviewed]
    return pa.Table.from_pylist(rows, schema=tables.ITEMS)


def _categories(paths: list[list[Any]]) -> list[str]:
    """Return the names of all paths; last the longest's leaf, which groups the history."""
    sorted_paths = sorted(([name for name in path if text_or_none(name)] for path in paths), key=len)
    leaf = sorted_paths[-1][-1:] if sorted_paths else []
    return [n for n in dict.fromkeys(n for path in sorted_paths for n in path) if n not in leaf] + leaf


def _rows(
    path: Path, role: str, parse: Callable[[str], Any], faults: Faults
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and object of each non-blank line; {} for unusable lines, which are counted."""
    for number, line in read_lines(path):
        try:
            row = parse(line.decode())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            row = None
        if not isinstance(row, dict) or not row:
            faults.add(f"{role} line that is no object of the official format", path, number, line)
            row = {}
        yield number, row

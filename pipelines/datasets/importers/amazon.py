"""Importer of the official Amazon 2014 files: 5-core reviews (JSON lines) and metadata (Python literals)."""

import ast
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.shared.errors import DataError
from data_contracts import tables
from pipelines.datasets.importers.output import Faults, ImportReport, text_or_none, write_tables

BAD_LINE = "line that is no object of the official format"


def import_amazon(reviews: Path, meta: Path, out: Path) -> ImportReport:
    """Write users, items and events of one Amazon category to the folder `out`, whole or not at all.

    Every review is a `purchase`, also an unusable one: its unusable fields are null, so that the quarantine
    of a run counts it. `ordinal` is the number of the review, because times have the granularity of a day
    and ties keep the order of the file. Items are those with a review; what is unusable of their metadata is
    null. Faults are counted, and logged with an example.

    Raises:
        DataError: a file is missing or a corrupt gzip, or no review is usable.
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
    for number, row in _rows(reviews, json.loads, faults):
        user, item = text_or_none(row.get("reviewerID")), text_or_none(row.get("asin"))
        seconds = str(row.get("unixReviewTime")).removesuffix(".0")
        is_time = re.fullmatch(r"-?[0-9]{1,11}", seconds) is not None
        if row:
            for name, is_usable in (("reviewerID", user), ("asin", item), ("unixReviewTime", is_time)):
                if not is_usable:
                    faults.add(f"review without a usable {name}", reviews, number, row)
        users.append(user)
        items.append(item)
        times.append(int(seconds) * 1_000_000 if is_time else None)
    usable = sum(None not in row for row in zip(users, items, times, strict=True))
    expected = "reviewerID, asin and unixReviewTime (whole seconds), as in the official 5-core reviews"
    faults.check_usable(reviews, usable, expected)
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "item_id": pa.array(items, pa.string()),
            "action": pa.repeat("purchase", len(users)),
            "timestamp": pa.array(times, pa.int64()).cast(tables.TIMESTAMP),
            "ordinal": range(len(users)),
        }
    )


def _items(reviewed: list[str], meta: Path, faults: Faults) -> pa.Table:
    wanted, found = set(reviewed), {}
    for number, row in _rows(meta, ast.literal_eval, faults):
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
    """Return the names of all paths; last the leaf of the longest one, by which history is grouped."""
    sorted_paths = sorted(([name for name in path if text_or_none(name)] for path in paths), key=len)
    leaf = sorted_paths[-1][-1:] if sorted_paths else []
    return [n for n in dict.fromkeys(n for path in sorted_paths for n in path) if n not in leaf] + leaf


def _rows(path: Path, parse: Callable[[str], Any], faults: Faults) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and object of each line that is not blank; {} for an unusable line, which is counted."""
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _parse(line, parse) or _count(faults, path, number, line)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: unreadable after line {number} ({error}); download it again") from error


def _parse(line: bytes, parse: Callable[[str], Any]) -> dict[str, Any] | None:
    try:
        row = parse(line.decode())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    return row if isinstance(row, dict) else None


def _count(faults: Faults, path: Path, number: int, line: bytes) -> dict[str, Any]:
    faults.add(BAD_LINE, path, number, line.decode(errors="replace"))
    return {}

"""Importer of Amazon's reviews and metadata in the formats of 2014, 2018 and 2023."""

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_contracts import tables
from pipelines.datasets.importers.output import (
    MILLISECONDS,
    Faults,
    ImportReport,
    read_lines,
    text_or_none,
    write_tables,
)


@dataclass(frozen=True)
class Format:
    """The names of a release's fields."""

    user: str
    item: str
    time: str
    meta_item: str
    brand: str


_2014_AND_2018 = Format("reviewerID", "asin", "unixReviewTime", "asin", "brand")
_2023 = Format("user_id", "parent_asin", "timestamp", "parent_asin", "store")
"""Products of 2023 that differ in colour or size have one `parent_asin`; the metadata knows that alone."""


def import_amazon(reviews: Path, meta: Path, out: str | Path) -> ImportReport:
    """Write one Amazon category's users, items and events to `out`, a folder or s3:// URI.

    Every review is a `purchase`, also an unusable one: its unusable fields are null, so that the quarantine
    of a run counts it. `ordinal` is the number of the review, because times have the granularity of a day
    before 2023, and ties keep the order of the file. Items are those with a review; what is unusable of their
    metadata is null, and of two lines on one item the later fills what the earlier lacks. Faults are counted,
    and logged with an example.
    Raises DataError: a file is missing or a corrupt gzip, no review is usable, or `out` holds other files.
    """
    faults = Faults()
    form = _format(Path(reviews))
    events = _events(Path(reviews), form, faults)
    users = pa.table({"user_id": events["user_id"].drop_null().unique().sort()})
    reviewed = events["item_id"].drop_null().unique().to_pylist()
    items = _items(reviewed, Path(meta), form, faults)
    return write_tables(out, faults, users, items, events)


def _format(reviews: Path) -> Format:
    """Return the format of the first line that has the fields of one."""
    for _, row in _rows(reviews, "review", json.loads, Faults()):
        for form in (_2014_AND_2018, _2023):
            if form.user in row:
                return form
    return _2014_AND_2018  # whose fields the error names


def _events(reviews: Path, form: Format, faults: Faults) -> pa.Table:
    users: list[str | None] = []
    items: list[str | None] = []
    times: list[int | None] = []
    for number, row in _rows(reviews, "review", json.loads, faults):
        users.append(text_or_none(row.get(form.user)))
        items.append(text_or_none(row.get(form.item)))
        times.append(_micros(row.get(form.time)))
        for name, column in ((form.user, users), (form.item, items), (form.time, times)):
            if row and column[-1] is None:
                faults.add(f"review without a usable {name}", reviews, number, row)
    expected = (
        "reviewerID, asin and unixReviewTime (whole seconds), as in the official reviews of 2014 and 2018, "
        "or user_id, parent_asin and timestamp (milliseconds), as in those of 2023"
    )
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


def _micros(time: object) -> int | None:
    """Return a time in seconds or milliseconds in microseconds; None for anything else."""
    text = str(time).removesuffix(".0")
    if not re.fullmatch(r"-?[0-9]{1,11}|[0-9]{12,14}", text):
        return None
    return int(text) * (1_000 if int(text) >= MILLISECONDS else 1_000_000)


def _items(reviewed: list[str], meta: Path, form: Format, faults: Faults) -> pa.Table:
    found: dict[str, dict[str, Any]] = {asin: {"item_id": asin, "categories": []} for asin in reviewed}
    for number, row in _rows(meta, "metadata", _object, faults):
        item = found.get(text_or_none(row.get(form.meta_item)) or "")
        if item is None:
            continue
        description = row.get("description")
        if isinstance(description, list) and all(isinstance(part, str) for part in description):
            description = " ".join(description)
        given = {"title": row.get("title"), "brand": row.get(form.brand), "description": description}
        fields: dict[str, Any] = {name: _text(value) for name, value in given.items()}
        paths = row.get("categories") or row.get("category") or []
        name = text_or_none(paths)
        paths = [name] if name and not name.startswith("[") else paths
        paths = [paths] if isinstance(paths, list) and all(isinstance(name, str) for name in paths) else paths
        is_nested = isinstance(paths, list) and all(isinstance(path, list) for path in paths)
        if not is_nested or any(given[name] and not fields[name] for name in given):
            faults.add("metadata field of a wrong type", meta, number, row)
        fields["categories"] = _categories(paths if is_nested else [])
        item |= {name: value for name, value in fields.items() if value and not item.get(name)}
    return pa.Table.from_pylist(list(found.values()), schema=tables.ITEMS)


def _text(value: object) -> str | None:
    """Return the text of a text or a number; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    text = text_or_none(value)
    # Of 2018, some titles hold a script of the page that they were read from.
    return None if text is None or "getTime()" in text else text


def _categories(paths: list[list[Any]]) -> list[str]:
    """Return the names of all paths; last the longest's leaf, which groups the history."""
    sorted_paths = sorted(([name for name in path if text_or_none(name)] for path in paths), key=len)
    leaf = sorted_paths[-1][-1:] if sorted_paths else []
    return [n for n in dict.fromkeys(n for path in sorted_paths for n in path) if n not in leaf] + leaf


def _object(line: str) -> Any:
    """Return the JSON value or, in the metadata of 2014, the Python literal."""
    try:
        return json.loads(line)
    except ValueError:
        return ast.literal_eval(line)


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

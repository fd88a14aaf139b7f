"""Importer of MovieLens-1M: users.dat and movies.dat as GroupLens gives them, and a table of interactions."""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.shared.errors import DataError
from data_contracts import tables
from pipelines.datasets.importers.output import MILLISECONDS, Faults, ImportReport, read_lines, write_tables

SEPARATOR = "::"
GENDERS = {"F": "female", "M": "male"}
AGE = re.compile("([0-9]{1,3})(?:-[0-9]{1,3}|[+])?")
"""The lower end of an age band, or the band as GroupLens spells it out."""
UNDER_18 = {"Under 18": 1}
"""The youngest band, which the file calls 1."""
HEADERS = ("userid", "user_id", "movieid", "movie_id")
ORDINALS = ("ordinal", "row_in_ratings_dat")


def import_movielens(users: Path, movies: Path, ratings: Path, out: str | Path) -> ImportReport:
    """Write users, items and events to `out`, a folder or s3:// URI.

    `ratings` is ratings.dat (UserID::MovieID::Rating::Timestamp) or a Parquet file with user_id, item_id
    (or movie_id), timestamp (Unix seconds, milliseconds, or a time) and, if ties in time have an order,
    ordinal or row_in_ratings_dat. A rating is a `click`: it says that the user engaged with the film, not
    how much. Age is the lower end of the age band; genres become tags.

    An unusable line of `users` or `movies` is left out; an unusable age or gender is null. An unusable
    rating has null fields, so that the quarantine of a run counts it. All are counted, and logged with an
    example.
    Raises DataError: a file is missing or unreadable, lacks a column, or has no usable row, or `out` holds
    other files.
    """
    faults = Faults()
    people = _records(Path(users), 5, faults, "UserID::Gender::Age::Occupation::Zip-code")
    films = _records(Path(movies), 3, faults, "MovieID::Title::Genres", text=1)
    events = _events(Path(ratings), faults)
    profiles = []
    for line, row in people:
        number, gender, age, *_ = row
        band = AGE.fullmatch(age)
        years = int(band[1]) if band else UNDER_18.get(age)
        for name, is_usable in (("gender", gender in GENDERS), ("age", years is not None)):
            if not is_usable:
                faults.add(f"user without a usable {name}", Path(users), line, SEPARATOR.join(row))
        profiles.append({"user_id": number, "age": years, "gender": GENDERS.get(gender)})
    items = [
        {"item_id": number, "title": title, "tags": [g for g in genres.split("|") if g], "categories": []}
        for _, (number, title, genres) in films
    ]
    users_table = pa.Table.from_pylist(profiles, schema=tables.USERS)
    return write_tables(out, faults, users_table, pa.Table.from_pylist(items, schema=tables.ITEMS), events)


def _records(
    path: Path, fields: int, faults: Faults, expected: str, text: int | None = None
) -> list[tuple[int, list[str]]]:
    """Return number and fields of each usable line; the field `text` may hold the separator."""
    records = []
    for number, row in _split(path):
        more = len(row) - fields
        if text is not None and more > 0:
            row[text : text + more + 1] = [SEPARATOR.join(row[text : text + more + 1])]
        if len(row) == fields and row[0]:
            records.append((number, row))
        else:
            faults.add(f"line without {expected}", path, number, SEPARATOR.join(row))
    faults.check_usable(path, len(records), expected)
    return records


def _split(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number and fields of each line that is not blank, nor a header."""
    for number, line in read_lines(path):
        fields = _decoded(line).rstrip("\r\n").split(SEPARATOR)
        if number > 1 or fields[0].casefold() not in HEADERS:
            yield number, fields


def _decoded(line: bytes) -> str:
    """Return the text: the original files are Latin-1, copies that others made UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _events(path: Path, faults: Faults) -> pa.Table:
    numbers: Sequence[int]
    if path.suffix == ".parquet":
        found, unit = _read_parquet(path), "row"
        numbers = range(1, len(found["timestamp"]) + 1)
    else:
        numbers, found = _read_dat(path)
        unit = "line"
    count = len(numbers)
    ordinal = next((found[name] for name in ORDINALS if name in found), pa.array(range(count)))
    try:
        columns = {name: found[name].cast(pa.string()) for name in ("user_id", "item_id")}
        columns["timestamp"] = _times(found["timestamp"])
        ordinal = ordinal.cast(pa.int64())
    except pa.ArrowException as error:
        raise DataError(f"{path}: a column has a wrong type ({error})") from error
    is_usable = functools.reduce(pc.and_, map(pc.is_valid, columns.values()))
    events = pa.table({**columns, "action": pa.repeat("click", count), "ordinal": ordinal})
    for index in pc.indices_nonzero(pc.invert(is_usable)).to_pylist():
        row = {name: column[index].as_py() for name, column in columns.items()}
        missing = ", ".join(name for name, value in row.items() if value is None)
        faults.add(f"rating without a usable {missing}", path, numbers[index], row, unit)
    expected = "UserID::MovieID::Rating::Timestamp, or columns user_id, item_id and timestamp (Unix seconds)"
    faults.check_usable(path, pc.sum(is_usable).as_py() or 0, expected)
    return events


def _read_dat(path: Path) -> tuple[list[int], dict[str, pa.Array]]:
    """Return line numbers and columns of ratings.dat; null where a line's fields do not fit."""
    numbers, rows = [], []
    for number, row in _split(path):
        numbers.append(number)
        rows.append(row + [""] * 4 if len(row) <= 4 else [""] * 4)
    return numbers, {
        name: pa.array([row[at] or None for row in rows], pa.string())
        for name, at in (("user_id", 0), ("item_id", 1), ("timestamp", 3))
    }


def _read_parquet(path: Path) -> dict[str, pa.Array | pa.ChunkedArray]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from error
    found = {name: table[name] for name in table.column_names}
    if "movie_id" in found:
        found.setdefault("item_id", found["movie_id"])
    for name in ("user_id", "item_id", "timestamp"):
        if name not in found:
            raise DataError(f"{path}: column '{name}' is missing (found: {', '.join(table.column_names)})")
    return found


def _times(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return times or Unix seconds as TIMESTAMP; null where that fails."""
    if not pa.types.is_timestamp(column.type):
        seconds = pd.to_numeric(column.to_pandas(), errors="coerce")
        seconds = seconds.where(seconds < MILLISECONDS, seconds / 1000)
        column = pa.array(pd.to_datetime(seconds, unit="s", errors="coerce"))
    return column.cast(tables.TIMESTAMP, safe=False)

"""Importer of MovieLens-1M: users.dat and movies.dat as GroupLens gives them, and a table of interactions."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.shared.artifacts.outputs import atomic_folder
from components.shared.errors import DataError
from data_contracts import tables
from pipelines.datasets.importers.report import ImportReport

SEPARATOR = "::"
GENDERS = {"F": "female", "M": "male"}


def import_movielens(users: Path, movies: Path, ratings: Path, out: Path) -> ImportReport:
    """Write users, items and events to the folder `out`, whole or not at all.

    `ratings` is ratings.dat (UserID::MovieID::Rating::Timestamp) or a Parquet file with user_id, item_id
    (or movie_id), timestamp (Unix seconds or a time) and, where ties in time have an order, ordinal or
    row_in_ratings_dat. A rating is a `click`: it says that the user
    engaged with the film, not how much. Age is the lower end of the age band; genres become tags. A row
    without a time keeps it null, for the quarantine to count.

    Raises:
        DataError: a file is missing or a line does not have the expected fields; names file and line.
    """
    people, films = _dat(Path(users), 5), _dat(Path(movies), 3)
    events = _events(Path(ratings))
    items = [
        {"item_id": number, "title": title, "tags": [g for g in genres.split("|") if g], "categories": []}
        for number, title, genres in films
    ]
    profiles = [
        {"user_id": number, "age": int(age), "gender": GENDERS.get(gender)}
        for number, gender, age, *_ in people
    ]
    with atomic_folder(Path(out)) as partial:
        pq.write_table(pa.Table.from_pylist(profiles, schema=tables.USERS), partial / "users.parquet")
        pq.write_table(pa.Table.from_pylist(items, schema=tables.ITEMS), partial / "items.parquet")
        pq.write_table(events, partial / "events.parquet")
    return ImportReport(users=len(profiles), items=len(items), events=events.num_rows)


def _dat(path: Path, fields: int) -> list[list[str]]:
    try:
        lines = path.read_text(encoding="latin-1").split("\n")  # splitlines knows more breaks
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); give the file of MovieLens-1M"
        ) from error
    rows = [line.split(SEPARATOR) for line in lines if line]
    for number, row in enumerate(rows, start=1):
        if len(row) != fields:
            raise DataError(
                f"{path}: line {number} has {len(row)} fields, expected {fields} separated by '::'"
            )
    if not rows:
        raise DataError(f"{path}: no rows in it; is the download complete?")
    return rows


def _events(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        try:
            found = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: not a readable Parquet file ({error})") from error
        names = (("user_id",), ("item_id", "movie_id"), ("timestamp",))
        columns = [_column(path, found, *known) for known in names]
        order = next((n for n in ("ordinal", "row_in_ratings_dat") if n in found.column_names), None)
        ordinal = found.column(order).cast(pa.int64()) if order else pa.array(range(len(found)), pa.int64())
    else:
        rows = _dat(path, 4)
        columns = [pa.array([row[at] for row in rows]) for at in (0, 1, 3)]
        columns[2] = columns[2].cast(pa.int64())
        ordinal = pa.array(range(len(rows)), pa.int64())
    users, items, times = columns
    if not pa.types.is_timestamp(times.type):
        times = pc.multiply(times.cast(pa.int64()), 1_000_000)
    count = len(users)
    return pa.table(
        {
            "user_id": users.cast(pa.string()),
            "item_id": items.cast(pa.string()),
            "action": pa.repeat("click", count),
            "dwell_seconds": pa.nulls(count, pa.float64()),
            "timestamp": times.cast(tables.TIMESTAMP),
            "ordinal": ordinal,
        },
        schema=pa.schema([field.with_nullable(True) for field in tables.EVENTS]),
    )


def _column(path: Path, table: pa.Table, *names: str) -> pa.ChunkedArray:
    for name in names:
        if name in table.column_names:
            return table.column(name)
    raise DataError(f"{path}: column '{names[0]}' is missing (found: {', '.join(table.column_names)})")

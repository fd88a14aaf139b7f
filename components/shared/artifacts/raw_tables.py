"""The files of the raw tables: found, and checked without Spark.

A table `events` in a folder is `events.parquet`, `.jsonl` or `.csv` (text also with `.gz`), or a folder
`events/` of such files.
"""

import csv
import functools
import io
import itertools
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from components.shared.artifacts.storage import Folder
from components.shared.errors import DataError
from data_contracts import tables

FORMATS = {".parquet": "parquet", ".jsonl": "jsonl", ".csv": "csv"}
MALFORMED = "_malformed"
LINE_BYTES, PACKED_LINE_BYTES = 50, 8  # least length of a line of text, as a rule


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of one raw table, all of one format ("parquet", "jsonl" or "csv")."""

    table: str
    format: str
    folder: Folder
    files: tuple[str, ...]  # relative to the folder

    @functools.cached_property
    def footers(self) -> dict[str, pq.FileMetaData]:
        """Return the footers of the Parquet files. Raises DataError."""
        footers = {}
        for file in self.files:
            path = f"{self.folder.root}/{file}"
            try:
                footers[file] = pq.read_metadata(path, filesystem=self.folder.store)
            except (OSError, pa.ArrowException) as error:
                raise DataError(
                    f"{self.folder.shown(file)}: not a readable Parquet file ({error}); export it again"
                ) from error
        return footers

    def header(self, file: str) -> list[str]:
        """Return the column names of the CSV `file`; none for an empty file."""
        return next(csv.reader(self.first_lines(file)[:1]), [])

    def first_lines(self, file: str) -> list[str]:
        """Return the first two lines of the text `file` that are not blank. Raises DataError."""
        path, compression = f"{self.folder.root}/{file}", "gzip" if file.endswith(".gz") else None
        try:
            stream = self.folder.store.open_input_stream(path, compression=compression)
            with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as lines:
                return list(itertools.islice(filter(str.strip, lines), 2))
        except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as error:
            raise DataError(
                f"{self.folder.shown(file)}: not readable as UTF-8 text ({error}); "
                "is it another encoding, or cut off?"
            ) from error


def locate(folder: Folder, table: str) -> Source:
    """Return the files of `table` in `folder`. Raises DataError: none, several, or formats mixed."""
    if found := find(folder, table):
        return found
    raise DataError(
        f"{folder.uri}: no {table} table; expected {table}.parquet, .jsonl, .csv (or .gz), or part files "
        f"in {table}/"
    )


def find(folder: Folder, table: str) -> Source | None:
    """Return what `locate` does, or None if `folder` holds no such table."""
    entries = folder.entries()
    found = [
        entry
        for entry in entries
        if entry.base_name.split(".")[0] == table and (not entry.is_file or _format(entry.base_name))
    ]
    if not found:
        if odd := [e.base_name for e in entries if e.base_name.lower().startswith(f"{table}.")]:
            raise DataError(
                f"{folder.shown(odd[0])}: if this is the table {table}, its name must be {table} with one of "
                "the endings .parquet, .jsonl, .csv (or .gz)"
            )
        return None
    if len(found) > 1:
        names = ", ".join(entry.base_name for entry in found)
        raise DataError(f"{folder.uri}: several {table} tables ({names}); keep one")
    parts = found if found[0].is_file else folder.files(found[0].base_name)
    paths = [PurePosixPath(folder.inner(entry.path)) for entry in parts]
    # Names that begin so are hidden, or not finished by their writer.
    files = [path for path in paths if not any(part.startswith((".", "_")) for part in path.parts)]
    formats = {_format(file.name) for file in files}
    if not files or None in formats or len(formats) > 1:
        listed = ", ".join(sorted({p.name for p in files})[:5]) or "nothing"
        raise DataError(
            f"{folder.shown(found[0].base_name)}: expected part files of one format (parquet, jsonl or csv), "
            f"found {listed}"
        )
    return Source(table=table, format=str(formats.pop()), folder=folder, files=tuple(map(str, files)))


def _format(name: str) -> str | None:
    return FORMATS.get(PurePosixPath(name.removesuffix(".gz")).suffix)


def check(source: Source) -> None:
    """Check columns and types of every file by its footer or first line. Raises DataError.

    The values of text files are checked later, row by row.
    """
    check_file = _check_parquet if source.format == "parquet" else _check_text
    if not sum(check_file(source, file) for file in source.files):
        first = source.folder.shown(source.files[0])
        raise DataError(f"{first}: the {source.table} table has no rows; is the export complete?")


def approximate_rows(source: Source) -> int:
    """Return the number of rows, from Parquet footers or estimated from text file sizes."""
    if source.format == "parquet":
        return sum(footer.num_rows for footer in source.footers.values())
    infos = source.folder.store.get_file_info([f"{source.folder.root}/{file}" for file in source.files])
    return sum(i.size // (PACKED_LINE_BYTES if i.path.endswith(".gz") else LINE_BYTES) for i in infos)


def _check_parquet(source: Source, file: str) -> int:
    """Return the number of rows."""
    found = source.footers[file].schema.to_arrow_schema()
    _check_columns(source, file, found.names)
    for name, wanted in zip(tables.RAW[source.table].names, tables.RAW[source.table].types, strict=True):
        if name in found.names and not _fits(kind := found.field(name).type, wanted):
            raise DataError(
                f"{source.folder.shown(file)}: column '{name}' has type {kind}, expected {wanted}; "
                "cast it when you export the table"
            )
    return source.footers[file].num_rows


def _check_text(source: Source, file: str) -> int:
    """Return 0 if there is no row, else 1."""
    lines = source.first_lines(file)
    if not lines:
        return 0
    if source.format == "csv":
        _check_columns(source, file, source.header(file))
        return len(lines) - 1
    try:
        row = json.loads(lines[0])
    except json.JSONDecodeError:
        return 1  # quarantined later, as any other malformed line
    if not isinstance(row, dict):
        raise DataError(
            f"{source.folder.shown(file)}: line 1 is not a JSON object; expected one object per line"
        )
    _check_columns(source, file, list(row), only_ids=True)  # a writer may leave out keys with null values
    return 1


def _check_columns(source: Source, file: str, found: list[str], only_ids: bool = False) -> None:
    if MALFORMED in found:
        raise DataError(
            f"{source.folder.shown(file)}: the column name '{MALFORMED}' is reserved; rename or drop it"
        )
    counts = Counter(name.lower() for name in found)  # Spark ignores the case of names
    if twice := [name for name in found if counts[name.lower()] > 1]:
        raise DataError(f"{source.folder.shown(file)}: column '{twice[0]}' appears twice; rename or drop one")
    required = tables.REQUIRED_COLUMNS[source.table]
    for column in required:
        if column not in found and not (only_ids and not column.endswith("_id")):
            raise DataError(
                f"{source.folder.shown(file)}: column '{column}' is missing (found: {', '.join(found)}); "
                f"the {source.table} table needs {', '.join(required)}"
            )


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    if types.is_dictionary(found):
        found = found.value_type
    if types.is_null(found):
        return True
    if types.is_string(wanted):
        return types.is_string(found) or types.is_large_string(found)
    if types.is_timestamp(wanted):
        return types.is_timestamp(found) or types.is_date(found)
    if types.is_floating(wanted):  # Spark reads no float16
        return types.is_integer(found) or (types.is_floating(found) and not types.is_float16(found))
    if types.is_integer(wanted):
        return types.is_integer(found)
    return (types.is_list(found) or types.is_large_list(found)) and _fits(found.value_type, wanted.value_type)

"""The files of the raw tables: found, and checked without Spark.

A table `events` in a folder is `events.parquet`, `.jsonl`, `.json` or `.csv` (text also with `.gz`), or a
folder `events/` of such files, or a Delta table.
"""

import functools
import io
import itertools
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TextIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from components.shared.artifacts import dialects, lakes, raw_columns
from components.shared.artifacts.dialects import Dialect
from components.shared.artifacts.raw_sources import RawSource
from components.shared.artifacts.storage import Folder, original
from components.shared.errors import DataError
from data_contracts import tables

FORMATS = {".parquet": "parquet", ".jsonl": "jsonl", ".json": "jsonl", ".csv": "csv"}
ENDINGS = ".parquet, .jsonl, .json, .csv (or .gz)"
UNREAD_CODECS = ("BROTLI", "LZO")
LINE_BYTES, PACKED_LINE_BYTES = 50, 8  # least length of a line of text, as a rule


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of one raw table, all of one format ("parquet", "jsonl" or "csv")."""

    table: str
    format: str
    folder: Folder
    files: tuple[str, ...]  # relative to the folder
    values: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """Columns whose values are the file's own (partitions of Delta, or of folders `action=view`), by file."""
    erased: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    """Numbers (from 0) of rows that are stored and no part of the table, by file."""
    given: RawSource = field(default_factory=RawSource)
    """What the file's columns and values are called."""
    is_log: bool = True
    """Whether the order of files and rows is that in which they were written."""

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

    @functools.cached_property
    def dialects(self) -> dict[str, Dialect]:
        """Return the dialect of every CSV file, as its first lines show it. Raises DataError."""
        return {file: self._dialect(file) for file in self.files}

    def contract_names(self, own: str) -> list[str]:
        """Return the contract's columns that the files' column `own` stands for."""
        return [name for name in self.given.names(own) if name in tables.RAW[self.table].names]

    def with_partitions(self, file: str, names: Sequence[str]) -> list[str]:
        """Return `names`, the columns stored in `file`, and those whose values are the file's own."""
        return [*names, *(name for name in self.values.get(file, ()) if name not in names)]

    def _dialect(self, file: str) -> Dialect:
        with _readable(self, file), self.open_text(file) as text:
            sample = text.read(dialects.SAMPLE_CHARS)
        whole = sample.rpartition("\n")[0] if len(sample) == dialects.SAMPLE_CHARS else sample
        required = tables.REQUIRED_COLUMNS[self.table]
        return dialects.detect(
            whole or sample,
            lambda names: set(required) <= set(self.given.renamed(self.with_partitions(file, names))),
        )

    def header(self, file: str) -> list[str]:
        """Return the column names of the CSV `file`; none for an empty file."""
        names = next(self.dialects[file].reader(self.first_lines(file)[:1]), [])
        # Excel writes names of nothing behind the last column, others a space before each name.
        return [name.strip() or f"_c{number}" for number, name in enumerate(names)]

    def first_lines(self, file: str) -> list[str]:
        """Return the first two lines of the text `file` that are not blank. Raises DataError."""
        with _readable(self, file), self.open_text(file) as lines:
            return list(itertools.islice(filter(str.strip, lines), 2))

    def open_text(self, file: str) -> TextIO:
        """Return the text `file` opened for reading."""
        path, compression = f"{self.folder.root}/{file}", "gzip" if file.endswith(".gz") else None
        stream = self.folder.store.open_input_stream(path, compression=compression)
        return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")


@contextmanager
def _readable(source: Source, file: str) -> Iterator[None]:
    """Turn what reading the text `file` raises within the block into a DataError."""
    shown = source.folder.shown(file)
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(dialects.not_utf8(lambda: source.open_text(file), shown)) from error
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise DataError(f"{shown}: unreadable or cut off ({error}); export or download it again") from error


def locate(folder: Folder, table: str, given: RawSource | None = None) -> Source:
    """Return the files of `table` in `folder`, which may be called otherwise.

    Raises DataError: none, several, or formats mixed.
    """
    if found := find(folder, table, given):
        return found
    name = (given and given.file) or table
    raise DataError(
        f"{original(folder.uri)}: no {table} table; expected {name}, "
        f"with one of the endings {ENDINGS}, or part files in {name}/"
    )


def find(folder: Folder, table: str, given: RawSource | None = None) -> Source | None:
    """Return what `locate` does, or None if `folder` holds no such table."""
    given = given or RawSource()
    wanted, entries = given.file or table, folder.entries()
    found = [
        entry
        for entry in entries
        if entry.base_name.split(".")[0] == wanted and (not entry.is_file or _format(entry.base_name))
    ]
    if not found:
        if odd := [e.base_name for e in entries if e.base_name.lower().startswith(f"{wanted}.")]:
            raise DataError(
                f"{folder.shown(odd[0])}: if this is the table {table}, its name must be {wanted} with one "
                f"of the endings {ENDINGS}"
            )
        return None
    if len(found) > 1:
        names = ", ".join(entry.base_name for entry in found)
        raise DataError(f"{original(folder.uri)}: several {table} tables ({names}); keep one")
    name, is_file = found[0].base_name, found[0].is_file
    paths = [folder.inner(entry.path) for entry in (found if is_file else folder.files(name))]
    below = [path.removeprefix(f"{name}/") for path in paths]
    lakes.refuse(folder.shown(name), below)
    if not is_file and folder.has(f"{name}/{lakes.DELTA_LOG}"):
        live = lakes.delta_files(folder, name)
        return Source(
            table=table,
            format="parquet",
            folder=folder,
            files=tuple(live),
            values={file: found.values for file, found in live.items()},
            erased={file: found.erased for file, found in live.items() if len(found.erased)},
            given=given,
            is_log=False,
        )
    return _files(folder, table, name, paths, given)


def _files(folder: Folder, table: str, name: str, paths: Sequence[str], given: RawSource) -> Source:
    # Names that begin so are hidden, or not finished by their writer.
    files = [
        path for path in map(PurePosixPath, paths) if not any(p.startswith((".", "_")) for p in path.parts)
    ]
    if packed := next((str(file) for file in files if re.search(r"\.(?!gz$)(?i:gz)$", file.name)), None):
        raise DataError(f"{folder.shown(packed)}: rename it; Spark unpacks only names that end in .gz")
    formats = {_format(file.name) for file in files}
    if not files or None in formats or len(formats) > 1:
        listed = ", ".join(sorted({p.name for p in files})[:5]) or "nothing"
        raise DataError(
            f"{folder.shown(name)}: expected part files of one format (parquet, jsonl or csv), found {listed}"
        )
    if colon := next((str(file) for file in files if ":" in str(file)), None):
        raise DataError(f"{folder.shown(colon)}: rename it; Spark cannot read a name with a colon")
    return Source(
        table=table,
        format=str(formats.pop()),
        folder=folder,
        files=tuple(map(str, files)),
        values={str(file): lakes.partitions(file) for file in files},
        given=given,
    )


def _format(name: str) -> str | None:
    return FORMATS.get(PurePosixPath(name.lower().removesuffix(".gz")).suffix)


def check(source: Source) -> None:
    """Check columns and types of every file by its footer or first line. Raises DataError.

    The values of text files are checked later, row by row.
    """
    if not checked_rows(source):
        first = source.folder.shown(source.files[0] if source.files else source.table)
        raise DataError(f"{first}: the {source.table} table has no rows; is the export complete?")


def checked_rows(source: Source) -> int:
    """Return the number of rows, which may be 0; files are checked as in `check`."""
    check_file = _check_parquet if source.format == "parquet" else _check_text
    return sum(check_file(source, file) for file in source.files)


def read_to_the_end(source: Source) -> None:
    """Check text files' encoding, their dialects and that a line holds one object. Raises DataError."""
    unseen = set(source.given.columns.values()) if source.format == "jsonl" else set()
    for file in source.files if source.format != "parquet" else ():
        unseen -= set(source.values.get(file, ()))
        with _readable(source, file), source.open_text(file) as text:
            shown = source.folder.shown(file)
            if source.format == "csv":
                source.dialects[file] = dialects.confirmed(text, shown, source.dialects[file])
            else:
                unseen = dialects.check_objects(text, shown, unseen)
    if unseen:
        seen = sorted(set(source.given.columns.values()) - unseen)
        source.given.check(source.folder.shown(source.files[0]), seen)


def approximate_rows(source: Source) -> int:
    """Return the number of rows, from Parquet footers or estimated from text file sizes."""
    if source.format == "parquet":
        return sum(footer.num_rows for footer in source.footers.values())
    infos = source.folder.store.get_file_info([f"{source.folder.root}/{file}" for file in source.files])
    return sum(i.size // (PACKED_LINE_BYTES if i.path.endswith(".gz") else LINE_BYTES) for i in infos)


def _check_parquet(source: Source, file: str) -> int:
    """Return the number of rows."""
    footer, shown = source.footers[file], source.folder.shown(file)
    if source.is_log:
        lakes.refuse_file(shown, footer.metadata)
    codec = footer.row_group(0).column(0).compression if footer.num_row_groups else ""
    if codec in UNREAD_CODECS:
        raise DataError(
            f"{shown}: compressed by {codec}, which Spark does not read; write it with snappy or zstd"
        )
    found = footer.schema.to_arrow_schema()
    names = source.with_partitions(file, found.names)
    source.given.check(shown, names)
    raw_columns.check_names(shown, source.table, source.given.renamed(names))
    pairs = [(name, found.field(own).type) for own in found.names for name in source.given.names(own)]
    raw_columns.check_types(shown, source.table, pa.schema(pairs))
    return footer.num_rows


def _check_text(source: Source, file: str) -> int:
    """Return 0 if there is no row, else 1."""
    lines, shown = source.first_lines(file), source.folder.shown(file)
    if not lines:
        return 0
    if "\0" in lines[0]:
        raise DataError(dialects.not_utf8(lambda: source.open_text(file), shown))
    if source.format == "csv":
        header = source.header(file)
        names = source.with_partitions(file, header)
        source.given.check(shown, names)
        raw_columns.check_names(shown, source.table, source.given.renamed(names))
        return len(lines) - 1
    try:
        row = json.loads(lines[0])
    except json.JSONDecodeError:
        if lines[0].strip() not in ("{", "["):
            return 1  # quarantined later, as any other malformed line
        row = None
    if not isinstance(row, dict):
        raise DataError(
            f"{shown}: line 1 is not a JSON object; expected one object per line (pandas: "
            "to_json(orient='records', lines=True))"
        )
    # A writer may leave out keys with null values.
    names = source.given.renamed(source.with_partitions(file, list(row)))
    raw_columns.check_names(shown, source.table, names, only_ids=True)
    return 1

"""Raw tables as Spark frames with the contract's columns and types, checked before Spark does real work.

A table `events` in a folder is `events.parquet`, `.jsonl` or `.csv` (text also with `.gz`), or a folder
`events/` of such files. In text files times are ISO 8601 or Unix seconds; lists in CSV are separated by "|".
"""

import csv
import functools
import gzip
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from components.etl.types import spark_type
from components.shared.errors import DataError
from data_contracts import tables

FORMATS = {".parquet": "parquet", ".jsonl": "jsonl", ".csv": "csv"}
MALFORMED = "_malformed"
LIST_SEPARATOR = "|"
LINE, PACKED_LINE = 100, 20  # bytes that a line of text has, roughly


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of one raw table, all of one format ("parquet", "jsonl" or "csv")."""

    table: str
    format: str
    files: tuple[Path, ...]


def locate(folder: Path, table: str) -> Source:
    """Find the files of `table` in `folder`.

    Raises:
        DataError: none, several, an unknown ending, or formats mixed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder with users, items and events")
    found = sorted(
        p for p in folder.iterdir() if p.name.split(".")[0] == table and (p.is_dir() or _format(p))
    )
    if not found:
        raise DataError(
            f"{folder}: no {table} table; expected {table}.parquet, .jsonl, .csv (or .gz), or {table}/"
        )
    if len(found) > 1:
        raise DataError(f"{folder}: several {table} tables ({', '.join(p.name for p in found)}); keep one")
    files = sorted(p for p in found[0].rglob("*") if _is_part(p)) if found[0].is_dir() else found
    formats = {_format(file) for file in files}
    if not files or None in formats or len(formats) > 1:
        listed = ", ".join(sorted({p.name for p in files})[:5]) or "nothing"
        raise DataError(
            f"{found[0]}: expected part files of one format (parquet, jsonl or csv), found {listed}"
        )
    return Source(table=table, format=str(formats.pop()), files=tuple(files))


def _is_part(path: Path) -> bool:
    return path.is_file() and not path.name.startswith((".", "_"))


def _format(path: Path) -> str | None:
    return FORMATS.get(Path(path.name.removesuffix(".gz")).suffix)


def check(source: Source) -> None:
    """Check columns and types of every file from its footer or first line.

    Raises:
        DataError: naming file, column and remedy: a missing column, a wrong type, an unreadable or
            empty table. Text is checked for its columns here, for its values row by row later.
    """
    rows = 0
    for file in source.files:
        if source.format == "parquet":
            rows += _check_parquet(file, source.table)
        else:
            rows += _check_text(file, source)
    if not rows:
        raise DataError(f"{source.files[0]}: the {source.table} table has no rows; is the export complete?")


def approximate_rows(source: Source) -> int:
    """Return the number of rows: of Parquet as the footers tell it, of text by the size of the files."""
    if source.format == "parquet":
        return sum(pq.read_metadata(file).num_rows for file in source.files)
    return sum(
        file.stat().st_size // (PACKED_LINE if file.suffix == ".gz" else LINE) for file in source.files
    )


def _check_parquet(file: Path, table: str) -> int:
    try:
        metadata = pq.read_metadata(file)
        found = pq.read_schema(file)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: not a readable Parquet file ({error}); export it again") from error
    _check_columns(file, table, found.names)
    for field in tables.RAW[table]:
        if field.name in found.names and not _fits(found.field(field.name).type, field.type):
            raise DataError(
                f"{file}: column '{field.name}' has type {found.field(field.name).type}, expected "
                f"{field.type}; cast it when you export the table"
            )
    return metadata.num_rows


def _check_text(file: Path, source: Source) -> int:
    try:
        with _open(file) as lines:
            first = next((line for line in lines if line.strip()), "")
            second = next((line for line in lines if line.strip()), "") if source.format == "csv" else first
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not readable as text ({error}); is the download complete?") from error
    if not first:
        return 0
    if source.format == "csv":
        _check_columns(file, source.table, _header(file))
        return int(bool(second))
    try:
        row = json.loads(first)
    except json.JSONDecodeError:
        return 1  # one malformed line is quarantined like any other
    if not isinstance(row, dict):
        raise DataError(f"{file}: line 1 is not a JSON object; expected one object a line")
    _check_columns(file, source.table, list(row), lenient=True)
    return 1


def _open(file: Path) -> Any:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8")
    return file.open(encoding="utf-8")


def _check_columns(file: Path, table: str, found: list[str], lenient: bool = False) -> None:
    # A JSON writer may leave out a key whose value is null, so one line proves little: only the ids count.
    if twice := [name for name, count in Counter(found).items() if count > 1]:
        raise DataError(f"{file}: column '{twice[0]}' stands there twice; rename or drop one")
    required = [c for c in tables.REQUIRED_COLUMNS[table] if not (lenient and not c.endswith("_id"))]
    for column in required:
        if column not in found:
            raise DataError(
                f"{file}: column '{column}' is missing (found: {', '.join(found)}); "
                f"the {table} table needs {', '.join(tables.REQUIRED_COLUMNS[table])}"
            )


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_string(wanted):
        return pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_null(found)
    if pa.types.is_timestamp(wanted):
        return pa.types.is_timestamp(found) or pa.types.is_date(found)
    if pa.types.is_floating(wanted):
        return pa.types.is_floating(found) or pa.types.is_integer(found) or pa.types.is_null(found)
    if pa.types.is_integer(wanted):
        return pa.types.is_integer(found) or pa.types.is_null(found)
    if pa.types.is_list(found) or pa.types.is_large_list(found):
        return _fits(found.value_type, wanted.value_type)
    return pa.types.is_null(found)


def read(spark: SparkSession, source: Source) -> DataFrame:
    """Return the table with exactly the contract's columns and types, plus `_malformed`.

    Optional columns that a file lacks are null. `_malformed` holds the raw text of a row (or of the
    fields) that could not be read as its type, null where all is well. Part files may differ in the
    order and number of their columns: Spark would read all of them by the first one's.
    """
    frames = [
        _read_alike(spark, source, layout, [str(file.resolve()) for file in files])
        for layout, files in _by_layout(source).items()
    ]
    return functools.reduce(DataFrame.unionByName, frames)


def _by_layout(source: Source) -> dict[tuple[str, ...], list[Path]]:
    """Return the files by their columns: names and types in Parquet, the header in CSV, all alike in JSON."""
    layouts: dict[tuple[str, ...], list[Path]] = {}
    for file in source.files:
        layout: tuple[str, ...] = ()
        if source.format == "parquet":
            layout = tuple(f"{field.name} {field.type}" for field in pq.read_schema(file))
        elif source.format == "csv":
            layout = tuple(_header(file))
            if not layout:
                continue  # an empty part; `check` has made sure that some part has rows
        layouts.setdefault(layout, []).append(file)
    return layouts


def _header(file: Path) -> list[str]:
    with _open(file) as lines:
        header = next(csv.reader([next((line for line in lines if line.strip()), "")]), [])
    return [name.removeprefix("\ufeff") for name in header]


def _read_alike(spark: SparkSession, source: Source, layout: tuple[str, ...], files: list[str]) -> DataFrame:
    if source.format == "parquet":
        return _typed_parquet(spark.read.parquet(*files), source.table)
    names = [field.name for field in tables.RAW[source.table]]
    options = {"columnNameOfCorruptRecord": MALFORMED, "mode": "PERMISSIVE", "encoding": "UTF-8"}
    if source.format == "jsonl":
        fields = [StructField(name, _text_type(source, name)) for name in names]
        schema = StructType([*fields, StructField(MALFORMED, StringType())])
        return _typed_text(spark.read.schema(schema).options(**options).json(files), source.table)
    # As text, by the file's own header; `escape` makes doubled quotes work as in RFC 4180. Pruning must be
    # off: it would leave out the fields by whose number a broken row is known.
    options |= {"header": "true", "escape": '"', "multiLine": "true", "columnPruning": "false"}
    schema = StructType([StructField(name, StringType()) for name in (*layout, MALFORMED)])
    frame = spark.read.schema(schema).options(**options).csv(files)
    columns = [F.col(n) if n in layout else F.lit(None).cast("string").alias(n) for n in names]
    return _typed_text(frame.select(*columns, MALFORMED), source.table)


def _text_type(source: Source, name: str) -> Any:
    kind = tables.RAW[source.table].field(name).type
    return spark_type(kind) if pa.types.is_list(kind) else StringType()


def _typed_parquet(frame: DataFrame, table: str) -> DataFrame:
    columns = [
        (F.col(f.name) if f.name in frame.columns else F.lit(None)).cast(spark_type(f.type)).alias(f.name)
        for f in tables.RAW[table]
    ]
    return frame.select(*columns, F.lit(None).cast("string").alias(MALFORMED))


def _typed_text(frame: DataFrame, table: str) -> DataFrame:
    columns, bad = [], []
    for field in tables.RAW[table]:
        text = F.col(field.name)
        if pa.types.is_string(field.type):
            columns.append(text)
            continue
        typed = _parsed(text, field.type, frame.schema[field.name].dataType)
        columns.append(typed.alias(field.name))
        if not pa.types.is_list(field.type):
            bad.append(F.when(text.isNotNull() & typed.isNull(), F.concat(F.lit(f"{field.name}="), text)))
    malformed = F.coalesce(F.col(MALFORMED), *bad)
    return frame.select(*columns, malformed.alias(MALFORMED))


def _parsed(text: Column, kind: pa.DataType, found: Any) -> Column:
    if pa.types.is_list(kind):
        return text if not isinstance(found, StringType) else F.split(text, rf"\{LIST_SEPARATOR}")
    if pa.types.is_timestamp(kind):
        seconds = text.try_cast("decimal(20,6)")
        return F.coalesce(F.timestamp_micros((seconds * 1_000_000).cast("long")), text.try_cast("timestamp"))
    return text.try_cast(spark_type(kind))

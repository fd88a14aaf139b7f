"""Raw tables as Spark frames with the contract's columns and types, checked before Spark does real work.

A table `events` in a folder is `events.parquet`, `.jsonl` or `.csv` (text also with `.gz`), or a folder
`events/` of such files. In text files times are ISO 8601 or Unix seconds; lists in CSV are separated by "|".
"""

import csv
import dataclasses
import functools
import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.errors import PySparkTypeError
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DecimalType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructField,
    StructType,
)

from components.etl.spark.types import spark_type
from components.shared.artifacts.storage import Folder
from components.shared.errors import DataError
from data_contracts import tables

FORMATS = {".parquet": "parquet", ".jsonl": "jsonl", ".csv": "csv"}
MALFORMED = "_malformed"
LIST_SEPARATOR = "|"
LINE, PACKED_LINE = 50, 8  # bytes that a line of text has at least, as a rule


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of one raw table in `folder`, all of one format ("parquet", "jsonl" or "csv")."""

    table: str
    format: str
    folder: Folder
    files: tuple[str, ...]  # relative to the folder
    footers: dict[str, pq.FileMetaData] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def shown(self, file: str) -> str:
        """Return where `file` lies, for people."""
        return self.folder.shown(file)

    def open(self, file: str, compression: str | None = None) -> Any:
        """Return the bytes of `file` as a stream; the caller closes it."""
        return self.folder.store.open_input_stream(f"{self.folder.root}/{file}", compression=compression)

    def footer(self, file: str) -> pq.FileMetaData:
        """Return the footer of the Parquet `file`, which is read once."""
        if file not in self.footers:
            path = f"{self.folder.root}/{file}"
            self.footers[file] = pq.read_metadata(path, filesystem=self.folder.store)
        return self.footers[file]

    def schema(self, file: str) -> pa.Schema:
        """Return the Arrow schema in the footer of the Parquet `file`."""
        return self.footer(file).schema.to_arrow_schema()


def locate(folder: Folder, table: str) -> Source:
    """Find the files of `table` in `folder`.

    Raises:
        DataError: none, several, an unknown ending, or formats mixed.
    """
    found = find(folder, table)
    if not found:
        raise DataError(
            f"{folder.uri}: no {table} table; expected {table}.parquet, .jsonl, .csv (or .gz), or part files "
            f"in {table}/"
        )
    return found


def find(folder: Folder, table: str) -> Source | None:
    """Return what `locate` does, or None where `folder` holds no such table."""
    found = [
        entry
        for entry in folder.entries()
        if entry.base_name.split(".")[0] == table and (not entry.is_file or _format(entry.base_name))
    ]
    if not found:
        if odd := [e.base_name for e in folder.entries() if e.base_name.lower().startswith(f"{table}.")]:
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
    # What a writer has not finished, or hides, lies below names that begin so.
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
    """Check columns and types of every file from its footer or first line.

    Raises:
        DataError: naming file, column and remedy: a missing column, a wrong type, an unreadable or
            empty table. Text is checked for its columns here, for its values row by row later.
    """
    rows = 0
    for file in source.files:
        if source.format == "parquet":
            rows += _check_parquet(source, file)
        else:
            rows += _check_text(source, file)
    if not rows:
        raise DataError(
            f"{source.shown(source.files[0])}: the {source.table} table has no rows; is the export complete?"
        )


def approximate_rows(source: Source) -> int:
    """Return the number of rows: of Parquet as the footers tell it, of text by the size of the files."""
    if source.format == "parquet":
        return sum(source.footer(file).num_rows for file in source.files)
    infos = source.folder.store.get_file_info([f"{source.folder.root}/{file}" for file in source.files])
    return sum(info.size // (PACKED_LINE if info.path.endswith(".gz") else LINE) for info in infos)


def _check_parquet(source: Source, file: str) -> int:
    try:
        rows, found = source.footer(file).num_rows, source.schema(file)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{source.shown(file)}: not a readable Parquet file ({error}); export it again"
        ) from error
    _check_columns(source, file, found.names)
    for field in tables.RAW[source.table]:
        if field.name in found.names and not _fits(found.field(field.name).type, field.type):
            kind = found.field(field.name).type
            raise DataError(
                f"{source.shown(file)}: column '{field.name}' has type {kind}, expected {field.type}; cast "
                "it when you export the table"
            )
    return rows


def _check_text(source: Source, file: str) -> int:
    try:
        with _lines(source, file) as lines:
            first = next((line for line in lines if line.strip()), "")
            second = next((line for line in lines if line.strip()), "") if source.format == "csv" else first
    except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as error:
        raise DataError(
            f"{source.shown(file)}: not readable as UTF-8 text ({error}); is it another encoding, or cut off?"
        ) from error
    if not first:
        return 0
    if source.format == "csv":
        _check_columns(source, file, _header(source, file))
        return int(bool(second))
    try:
        row = json.loads(first)
    except json.JSONDecodeError:
        return 1  # one malformed line is quarantined like any other
    if not isinstance(row, dict):
        raise DataError(f"{source.shown(file)}: line 1 is not a JSON object; expected one object a line")
    _check_columns(source, file, list(row), lenient=True)
    return 1


def _lines(source: Source, file: str) -> io.TextIOWrapper:
    compression = "gzip" if file.endswith(".gz") else None
    return io.TextIOWrapper(source.open(file, compression), encoding="utf-8-sig", newline="")


def _check_columns(source: Source, file: str, found: list[str], lenient: bool = False) -> None:
    if MALFORMED in found:
        raise DataError(
            f"{source.shown(file)}: column '{MALFORMED}' has a name of our own; rename or drop it"
        )
    counts = Counter(name.lower() for name in found)  # Spark tells no names apart by case
    if twice := [name for name in found if counts[name.lower()] > 1]:
        raise DataError(f"{source.shown(file)}: column '{twice[0]}' stands there twice; rename or drop one")
    # A JSON writer may leave out a key whose value is null, so one line proves little: only the ids count.
    required = [c for c in tables.REQUIRED_COLUMNS[source.table] if not (lenient and not c.endswith("_id"))]
    for column in required:
        if column not in found:
            raise DataError(
                f"{source.shown(file)}: column '{column}' is missing (found: {', '.join(found)}); "
                f"the {source.table} table needs {', '.join(tables.REQUIRED_COLUMNS[source.table])}"
            )


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_string(wanted):
        return pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_null(found)
    if pa.types.is_timestamp(wanted):
        return pa.types.is_timestamp(found) or pa.types.is_date(found)
    if pa.types.is_floating(wanted) and pa.types.is_float16(found):
        return False  # Spark reads none
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
    frames = [_read_alike(spark, source, layout, files) for layout, files in _by_layout(source).items()]
    return functools.reduce(DataFrame.unionByName, frames)


def _by_layout(source: Source) -> dict[tuple[str, ...], list[str]]:
    """Return the files by their columns: names and types in Parquet, the header in CSV, all alike in JSON."""
    layouts: dict[tuple[str, ...], list[str]] = {}
    for file in source.files:
        layout: tuple[str, ...] = ()
        if source.format == "parquet":
            kinds = _physical(source, file)
            layout = tuple(f"{f.name} {f.type} {kinds.get(f.name)}" for f in source.schema(file))
        elif source.format == "csv":
            layout = tuple(_header(source, file))
            if not layout:
                continue  # an empty part; `check` has made sure that some part has rows
        layouts.setdefault(layout, []).append(file)
    return layouts


def _header(source: Source, file: str) -> list[str]:
    with _lines(source, file) as lines:
        return next(csv.reader([next((line for line in lines if line.strip()), "")]), [])


def _read_alike(spark: SparkSession, source: Source, layout: tuple[str, ...], files: list[str]) -> DataFrame:
    paths = [source.folder.spark(file) for file in files]
    if source.format == "parquet":
        schema = _declared(source, files[0])
        reader = spark.read.schema(schema) if schema else spark.read
        return _typed_parquet(reader.parquet(*paths), source.table)
    names = [field.name for field in tables.RAW[source.table]]
    options = {"columnNameOfCorruptRecord": MALFORMED, "mode": "PERMISSIVE", "encoding": "UTF-8"}
    if source.format == "jsonl":
        fields = [StructField(name, _text_type(source, name)) for name in names]
        schema = StructType([*fields, StructField(MALFORMED, StringType())])
        return _typed_text(spark.read.schema(schema).options(**options).json(paths), source.table)
    # As text, by the file's own header; `escape` makes doubled quotes work as in RFC 4180. Pruning must be
    # off: it would leave out the fields by whose number a broken row is known.
    options |= {"header": "true", "escape": '"', "multiLine": "true", "columnPruning": "false"}
    schema = StructType([StructField(name, StringType()) for name in (*layout, MALFORMED)])
    frame = spark.read.schema(schema).options(**options).csv(paths)
    columns = [F.col(n) if n in layout else F.lit(None).cast("string").alias(n) for n in names]
    # Bytes that are not UTF-8 come as U+FFFD, which would make one of several ids; and a quote that is never
    # closed swallows the lines behind it, each of which is a lost row.
    ids = [n for n in names if n.endswith("_id") and n in layout]
    broken = [F.when(F.col(n).contains("\ufffd"), F.concat(F.lit(f"{n}="), F.col(n))) for n in ids]
    typed = _typed_text(frame.select(*columns, F.coalesce(MALFORMED, *broken).alias(MALFORMED)), source.table)
    return typed.withColumn(
        MALFORMED, F.explode(F.coalesce(F.split(MALFORMED, "\r?\n"), F.array(F.lit(None))))
    )


def _declared(source: Source, file: str) -> StructType | None:
    """Return the contract's columns of a Parquet file as its footer has them, or None to let Spark look.

    Told the schema, Spark starts no job to find it; it need not know the columns that nobody reads. Times in
    nanoseconds, which pandas writes and Spark refuses, are read as the integers that they are; INT96, in
    which Spark itself and Hive write times, looks the same in Arrow and is left to Spark.
    """
    found, kinds = source.schema(file), _physical(source, file)
    names = [field.name for field in tables.RAW[source.table] if field.name in found.names]
    try:
        return StructType(
            [StructField(name, _stored_type(found.field(name).type, kinds.get(name))) for name in names]
        )
    except PySparkTypeError:
        return None


# As Spark itself reads them.
_UNSIGNED = {
    pa.uint8(): ShortType(),
    pa.uint16(): IntegerType(),
    pa.uint32(): LongType(),
    pa.uint64(): DecimalType(20, 0),
}


def _stored_type(kind: pa.DataType, physical: str | None) -> Any:
    if pa.types.is_timestamp(kind) and kind.unit == "ns" and physical == "INT64":
        return LongType()
    return _UNSIGNED.get(kind) or spark_type(kind)


def _physical(source: Source, file: str) -> dict[str, str]:
    """Return how Parquet stores the values of each column that is not nested."""
    schema = source.footer(file).schema
    return {one.path: one.physical_type for one in (schema.column(n) for n in range(len(schema)))}


def _text_type(source: Source, name: str) -> Any:
    kind = tables.RAW[source.table].field(name).type
    return spark_type(kind) if pa.types.is_list(kind) else StringType()


def _typed_parquet(frame: DataFrame, table: str) -> DataFrame:
    def typed(field: pa.Field) -> Column:
        if field.name not in frame.columns:
            return F.lit(None).cast(spark_type(field.type))
        if pa.types.is_timestamp(field.type) and isinstance(frame.schema[field.name].dataType, LongType):
            return F.timestamp_micros(F.call_function("div", F.col(field.name), F.lit(1000)))
        column = F.col(field.name).try_cast(spark_type(field.type))
        if pa.types.is_list(field.type):
            return F.transform(column, F.make_valid_utf8)
        # Not the keys: two of them might become one.
        if pa.types.is_string(field.type) and not field.name.endswith(("_id", "action")):
            return F.make_valid_utf8(column)
        return column

    # A number that its column cannot hold makes its row malformed, as text would.
    bad = [
        F.when(F.col(f.name).isNotNull() & typed(f).isNull(), F.concat(F.lit(f"{f.name}="), F.col(f.name)))
        for f in tables.RAW[table]
        if pa.types.is_integer(f.type)
        and f.name in frame.columns
        and frame.schema[f.name].dataType != spark_type(f.type)
    ]
    columns = [typed(field).alias(field.name) for field in tables.RAW[table]]
    return frame.select(*columns, F.coalesce(*bad, F.lit(None).cast("string")).alias(MALFORMED))


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
        # 20250101 is a day, not a moment of 1970; 12:30 is a time of no day.
        number = F.when(~text.rlike(r"^\s*\d{8}\s*$"), text.try_cast("decimal(20,6)"))
        day = F.when(text.rlike(r"^\s*\d{8}\s*$"), F.try_to_timestamp(F.trim(text), F.lit("yyyyMMdd")))
        iso = F.when(text.rlike(r"^\s*\d{4}-"), text.try_cast("timestamp"))
        return F.coalesce(F.timestamp_micros((number * 1_000_000).try_cast("long")), day, iso)
    return text.try_cast(spark_type(kind))

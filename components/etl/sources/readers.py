"""Raw tables as Spark frames with the contract's columns and types.

In text files times are ISO 8601 or Unix seconds; lists in CSV are separated by "|".
"""

import functools
import re
from collections.abc import Mapping
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import types
from pyspark.errors import PySparkTypeError
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, from_arrow_type
from pyspark.sql.types import DataType, LongType, StringType, StructField, StructType

from components.shared.artifacts.raw_tables import MALFORMED, Source
from data_contracts import tables

LIST_SEPARATOR = "|"
PLACE = "place"
FILE_BIT, BLOCK_BIT, BLOCK_BYTES = 45, 31, 4 << 20  # of PLACE; Spark cuts files into larger blocks


def read(spark: SparkSession, source: Source) -> DataFrame:
    """Return the table with exactly the contract's columns and types, plus `_malformed` and `place`.

    Optional columns that a file lacks are null. `_malformed` holds the raw text of a row (or field) that
    could not be read as its type, and is null elsewhere. `place` rises with the names of the files and their
    rows: the order in which a log was written.
    """
    layouts: dict[tuple[str, ...], list[str]] = {}
    for file in source.files:
        layouts.setdefault(_layout(source, file), []).append(file)
    if source.format == "csv":
        layouts.pop((), None)  # empty part files; `check` has made sure that some part has rows
    # A frame per layout: Spark would read all files by the columns of the first one.
    order = {file: number for number, file in enumerate(sorted(source.files))}
    frames = [_read_files(spark, source, files, order) for files in layouts.values()]
    return functools.reduce(DataFrame.unionByName, frames)


def _layout(source: Source, file: str) -> tuple[str, ...]:
    """Return what files must share to be read together."""
    if source.format == "parquet":
        columns = source.footers[file].schema
        return tuple(f"{column.path} {column.physical_type} {column.logical_type}" for column in columns)
    return tuple(source.header(file)) if source.format == "csv" else ()


def _read_files(spark: SparkSession, source: Source, files: list[str], order: Mapping[str, int]) -> DataFrame:
    paths = [source.folder.spark(file) for file in files]
    if source.format == "parquet":
        schema = _stored_schema(source, files[0])
        reader = spark.read.schema(schema) if schema else spark.read
        return _typed(_placed(reader.parquet(*paths), source, files, order), source.table)
    options = {"columnNameOfCorruptRecord": MALFORMED, "mode": "PERMISSIVE", "encoding": "UTF-8"}
    malformed = StructField(MALFORMED, StringType())
    if source.format == "jsonl":
        fields = [
            StructField(f.name, from_arrow_type(f.type) if types.is_list(f.type) else StringType())
            for f in tables.RAW[source.table]
        ]
        schema = StructType([*fields, malformed])
        frame = spark.read.schema(schema).options(**options).json(paths)
        return _typed(_placed(frame, source, files, order), source.table)
    # As text, by the file's own header; `escape` makes doubled quotes work as in RFC 4180. Pruning would
    # leave out fields, by whose number a broken row is recognised.
    options |= {"header": "true", "escape": '"', "multiLine": "true", "columnPruning": "false"}
    header = source.header(files[0])
    schema = StructType([*(StructField(name, StringType()) for name in header), malformed])
    frame = _placed(spark.read.schema(schema).options(**options).csv(paths), source, files, order)
    # Bytes that are not UTF-8 come as U+FFFD, which would merge ids.
    ids = [name for name in frame.columns if name.endswith("_id")]
    broken = [F.when(F.contains(F.col(n), F.lit("\ufffd")), _labelled(n)) for n in ids]
    typed = _typed(frame.withColumn(MALFORMED, F.coalesce(MALFORMED, *broken)), source.table)
    # A quote that is never closed swallows the lines behind it, each of which is a lost row.
    lines = F.coalesce(F.split(MALFORMED, "\r?\n"), F.array(F.lit(None)))
    return typed.withColumn(MALFORMED, F.explode(lines))


def _placed(frame: DataFrame, source: Source, files: list[str], order: Mapping[str, int]) -> DataFrame:
    """Return `frame`, just read from `files`, with `place`: number of file, block and row.

    Parquet knows its rows' numbers; of text, rows are numbered in each of Spark's partitions, which holds
    the rows of a block in their order.
    """
    if source.format == "parquet":
        row = F.col("_metadata.row_index")
    else:
        block = F.floor(F.col("_metadata.file_block_start") / BLOCK_BYTES)
        in_block = F.monotonically_increasing_id().bitwiseAND((1 << BLOCK_BIT) - 1)
        row = F.shiftleft(block, BLOCK_BIT) + in_block
    columns = [name for name in frame.columns if name in (*tables.RAW[source.table].names, MALFORMED)]
    if len(files) == 1:
        return frame.select(*columns, (F.lit(order[files[0]] << FILE_BIT) + row).alias(PLACE))
    numbered = frame.select(*columns, F.col("_metadata.file_path").alias("_file"), row.alias("_row"))
    paths = sorted((re.sub("^file:/+", "file:/", path) for path in frame.inputFiles()), key=unquote)
    numbers = [(path, order[file]) for path, file in zip(paths, sorted(files), strict=True)]
    known = frame.sparkSession.createDataFrame(numbers, "_file string, _number long")
    joined = numbered.join(F.broadcast(known), "_file", "left")
    return joined.select(*columns, (F.shiftleft("_number", FILE_BIT) + F.col("_row")).alias(PLACE))


def _stored_schema(source: Source, file: str) -> StructType | None:
    """Return the contract's columns as the Parquet `file` stores them, None if Spark must infer.

    With a schema, Spark starts no job to find it, and may not know the types of unused columns.
    """
    found = source.footers[file].schema.to_arrow_schema()
    columns = [field for field in found if field.name in tables.RAW[source.table].names]
    if any(types.is_timestamp(field.type) and field.type.unit == "ns" for field in columns):
        return None  # nanoseconds and INT96 look the same to Arrow; Spark reads the former as integers
    try:
        return from_arrow_schema(pa.schema(columns))
    except PySparkTypeError:  # such as unsigned integers
        return None


def _typed(frame: DataFrame, table: str) -> DataFrame:
    """Return the contract's columns of `frame`; a value that its column cannot hold is `_malformed`."""
    columns, malformed = [], [F.col(MALFORMED)] if MALFORMED in frame.columns else [F.lit(None)]
    for field in tables.RAW[table]:
        if field.name not in frame.columns:
            columns.append(F.lit(None).cast(from_arrow_type(field.type)).alias(field.name))
            continue
        found = frame.schema[field.name].dataType
        typed = _cast(F.col(field.name), found, field)
        columns.append(typed.alias(field.name))
        if not types.is_list(field.type) and found != from_arrow_type(field.type):
            malformed.append(F.when(F.col(field.name).isNotNull() & typed.isNull(), _labelled(field.name)))
    return frame.select(*columns, F.coalesce(*malformed).cast("string").alias(MALFORMED), PLACE)


def _cast(value: Column, found: DataType, field: pa.Field) -> Column:
    """Return `value`, of Spark's type `found`, as the type of `field`; null where that fails."""
    is_text = isinstance(found, StringType)
    if types.is_list(field.type):
        if is_text:
            return F.split(value, rf"\{LIST_SEPARATOR}")
        return F.transform(value.try_cast(from_arrow_type(field.type)), F.make_valid_utf8)
    if types.is_string(field.type):
        # Ids and actions stay as they are: two of them might become the same.
        return value if field.name.endswith(("_id", "action")) else F.make_valid_utf8(value)
    if types.is_timestamp(field.type) and is_text:
        return _parse_time(value)
    if types.is_timestamp(field.type) and isinstance(found, LongType):  # nanoseconds
        return F.timestamp_micros(F.call_function("div", value, F.lit(1000)))
    return value.try_cast(from_arrow_type(field.type))


def _parse_time(text: Column) -> Column:
    # 20250101 is a day, not a second of 1970; 12:30 has no day.
    is_day = text.rlike(r"^\s*\d{8}\s*$")
    seconds = F.when(~is_day, text.try_cast("decimal(20,6)"))
    day = F.when(is_day, F.try_to_timestamp(F.trim(text), F.lit("yyyyMMdd")))
    iso = F.when(text.rlike(r"^\s*\d{4}-"), text.try_cast("timestamp"))
    return F.coalesce(F.timestamp_micros((seconds * 1_000_000).try_cast("long")), day, iso)


def _labelled(name: str) -> Column:
    return F.concat(F.lit(f"{name}="), F.col(name))

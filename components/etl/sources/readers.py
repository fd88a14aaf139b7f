"""Raw tables as Spark frames with the contract's columns and types; values are read in `values.py`."""

import functools
import operator
import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from pyarrow import types
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import StringType, StructField, StructType

from components.etl.sources import parquet, values
from components.etl.sources.lists import separators
from components.shared.artifacts.raw_columns import MALFORMED
from components.shared.artifacts.raw_tables import Source
from data_contracts import tables
from data_contracts.null_words import NULL_WORDS

PLACE, UNREAD = "place", "unread"
SEPARATOR = "\x1f"
FILE_BIT, BLOCK_BIT, BLOCK_BYTES = 45, 31, 4 << 20  # of PLACE; Spark cuts files into larger blocks


def read(spark: SparkSession, source: Source, null_words: Sequence[str] = NULL_WORDS) -> DataFrame:
    """Return the table with exactly the contract's columns and types, `_malformed`, `unread` and `place`.

    Optional columns that a file lacks are null, as are `null_words` instead of values. `_malformed` holds the
    raw text of a row (or required field) that could not be read as its type, and is null elsewhere; `unread`,
    optional fields that could not ("age=unknown"), which are null themselves. `place` rises with the names of
    the files and their rows: the order in which a log was written.
    """
    layouts: dict[tuple[object, ...], list[str]] = {}
    for file in source.files:
        layouts.setdefault(_layout(source, file), []).append(file)
    layouts.pop((), None)  # empty part files; `check` has made sure that some part has rows
    order = {file: number for number, file in enumerate(sorted(source.files))}
    # A frame per layout: Spark would read all files by the columns of the first one.
    frames = [_read_files(spark, source, files, order, null_words) for files in layouts.values()]
    return functools.reduce(DataFrame.unionByName, frames)


def ids_of(events: DataFrame, table: str, key: str) -> DataFrame:
    """Return a raw `table` of the ids in `events` and nothing else."""
    ids = events.where(F.col(key).isNotNull()).groupBy(key).agg(F.min(PLACE).alias(PLACE))
    nothing = [
        F.lit(None).cast(from_arrow_type(field.type)).alias(field.name)
        for field in tables.RAW[table]
        if field.name != key
    ]
    unread = F.lit(None).cast("array<string>").alias(UNREAD)
    return ids.select(key, *nothing, F.lit(None).cast("string").alias(MALFORMED), unread, PLACE)


def file_of(source: Source, place: int) -> str:
    """Return the file that holds the row at `place`."""
    return sorted(source.files)[place >> FILE_BIT]


def _layout(source: Source, file: str) -> tuple[object, ...]:
    """Return what files must share to be read together; () for a file without rows."""
    own = {name: v for name, v in source.values.get(file, {}).items() if source.contract_names(name)}
    if source.format == "parquet":
        columns = source.footers[file].schema if source.footers[file].num_rows else ()
        stored = [f"{column.path} {column.physical_type} {column.logical_type}" for column in columns]
        return (*stored, *own.items()) if stored else ()
    if source.format == "csv":
        header = source.header(file)
        return (source.dialects[file], *header, *own.items()) if header else ()
    return ("jsonl", *own.items())


def _read_files(
    spark: SparkSession, source: Source, files: list[str], order: Mapping[str, int], null_words: Sequence[str]
) -> DataFrame:
    paths = [source.folder.spark(file) for file in files]
    stored: dict[str, pa.DataType] = {}
    if source.format == "parquet":
        stored = parquet.stored(source, files[0])
        frame = spark.read.schema(parquet.schema(source, files[0], stored)).parquet(*paths)
    else:
        frame = _read_text(spark, source, files[0], paths)
    frame = _placed(frame, source, files, order)
    if erased := [(order[file] << FILE_BIT) + source.erased[file] for file in files if file in source.erased]:
        places = spark.createDataFrame(pa.table({PLACE: np.concatenate(erased)}))
        frame = frame.join(F.broadcast(places), PLACE, "left_anti")
    stored = {name: kind for own, kind in stored.items() for name in source.contract_names(own)}
    for own, value in source.values.get(files[0], {}).items():
        for name in source.contract_names(own):
            frame = frame.withColumn(name, F.lit(value).cast("string"))
            stored.pop(name, None)
    lost = parquet.lost(source, files[0]) if source.format == "parquet" else {}
    typed = _typed(_translated(frame, source, stored), source.table, stored, lost, null_words)
    if source.format != "csv":
        return typed
    # A quote that is never closed swallows the lines behind it, each of which is a lost row.
    # Spark refuses a query, such as a count, that needs nothing else of the file: so this needs a field.
    never = F.concat(F.col(typed.columns[0]), F.lit("\0"))
    malformed = F.when(~F.col(MALFORMED).eqNullSafe(never), F.col(MALFORMED))
    lines = F.coalesce(F.split(malformed, "\r?\n"), F.array(F.lit(None)))
    return typed.withColumn(MALFORMED, F.explode(lines))


def _read_text(spark: SparkSession, source: Source, file: str, paths: list[str]) -> DataFrame:
    """Return all fields as texts; lists in JSON keep its notation."""
    options = {"columnNameOfCorruptRecord": MALFORMED, "mode": "PERMISSIVE", "encoding": "UTF-8"}
    names = source.header(file) if source.format == "csv" else _own_names(source)
    schema = StructType([StructField(name, StringType()) for name in (*names, MALFORMED)])
    reader = spark.read.schema(schema).options(**options)
    if source.format == "jsonl":
        frame = reader.json(paths)
        # Python writes NaN where a number is missing; Spark puts it in quotes, as text.
        return frame.withColumns({name: F.when(_quoted(name) != '"NaN"', _quoted(name)) for name in names})
    # Pruning would leave out fields, by whose number a broken row is recognised.
    dialect = source.dialects[file]
    written = {"sep": dialect.delimiter, "quote": dialect.quote, "escape": dialect.escape}
    reading = {
        "header": "true",
        "multiLine": "true",
        "columnPruning": "false",
        "ignoreLeadingWhiteSpace": "true",  # a quote behind it is one
    }
    frame = reader.options(**written, **reading).csv(paths)
    # Files put together by `cat` hold their header again.
    known = [name for name in names if source.contract_names(name)]
    is_header = functools.reduce(operator.and_, (_quoted(name) == name for name in known))
    header = source.first_lines(file)[0].strip("\r\n")
    return frame.withColumn(MALFORMED, F.when(is_header, header).otherwise(F.col(MALFORMED)))


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
    columns = [
        _quoted(own).alias(name)
        for own in frame.columns
        for name in ([own] if own == MALFORMED else source.contract_names(own))
    ]
    if len(files) == 1:
        return frame.select(*columns, (F.lit(order[files[0]] << FILE_BIT) + row).alias(PLACE))
    numbered = frame.select(*columns, F.col("_metadata.file_path").alias("_file"), row.alias("_row"))
    paths = sorted((re.sub("^file:/+", "file:/", path) for path in frame.inputFiles()), key=unquote)
    numbers = [(path, order[file]) for path, file in zip(paths, sorted(files), strict=True)]
    known = frame.sparkSession.createDataFrame(numbers, "_file string, _number long")
    joined = numbered.join(F.broadcast(known), "_file", "left")
    kept = [name for name in numbered.columns if name not in ("_file", "_row")]
    return joined.select(*kept, (F.shiftleft("_number", FILE_BIT) + F.col("_row")).alias(PLACE))


def _quoted(name: str) -> Column:
    """Return the column called `name`, whatever characters are in it."""
    return F.col("`" + name.replace("`", "``") + "`")


def _own_names(source: Source) -> list[str]:
    """Return the file's names of all columns of the contract, once each."""
    columns = source.given.columns
    return list(dict.fromkeys(columns.get(name, name) for name in tables.RAW[source.table].names))


def _translated(frame: DataFrame, source: Source, stored: Mapping[str, pa.DataType]) -> DataFrame:
    """Return `frame` with the contract's actions, trimmed ids, and times that are numbers in seconds."""
    given = source.given
    for name in ("user_id", "item_id", "action"):  # columns of fixed width are padded by spaces
        if name in frame.columns and isinstance(frame.schema[name].dataType, StringType):
            frame = frame.withColumn(name, F.btrim(F.col(name), F.lit(values.WHITE)))
    if given.actions and "action" in frame.columns:
        known = F.create_map(*(F.lit(text) for pair in given.actions.items() for text in pair))
        frame = frame.withColumn("action", F.coalesce(known[F.col("action").cast("string")], "action"))
    for field in tables.RAW[source.table] if given.time_unit != "s" else ():
        kind = stored.get(field.name, pa.null())
        is_stored_time = types.is_timestamp(kind) or types.is_date(kind)
        if types.is_timestamp(field.type) and field.name in frame.columns and not is_stored_time:
            frame = frame.withColumn(field.name, values.in_seconds(F.col(field.name), given.time_unit))
    return frame


def _typed(
    frame: DataFrame,
    table: str,
    stored: Mapping[str, pa.DataType],
    lost: Mapping[str, pa.DataType],
    null_words: Sequence[str],
) -> DataFrame:
    """Return the contract's columns of `frame` in its types.

    A value that its column cannot hold is `_malformed` if the column is required, else `unread`, as are
    columns `lost`.
    """
    columns = []
    unread = [(F.lit(True), F.lit(f"{name}=of type {kind}")) for name, kind in lost.items()]
    malformed = [F.col(MALFORMED)] if MALFORMED in frame.columns else [F.lit(None)]
    separator_of = separators(frame, [f.name for f in tables.RAW[table] if types.is_list(f.type)])
    for field in tables.RAW[table]:
        is_there = field.name in frame.columns and (
            not stored or field.name in stored or _is_text(frame, field)
        )
        if not is_there or field.name in lost:
            columns.append(F.lit(None).cast(from_arrow_type(field.type)).alias(field.name))
            continue
        found = frame.schema[field.name].dataType
        # Of events, `event_faults` looks for these words only where an action or item is unknown.
        words = () if table == "events" and field.name in ("action", "item_id") else null_words
        value = values.known(F.col(field.name), found, words)
        typed = values.cast(value, found, field, stored.get(field.name), separator_of.get(field.name))
        items = values.known_items(typed, field, null_words) if types.is_list(field.type) else typed
        columns.append(items.alias(field.name))
        if values.may_fail(found, field):
            failed = value.isNotNull() & typed.isNull()
            if field.nullable:
                unread.append((failed, values.labelled(field.name)))
            else:
                malformed.append(F.when(failed, values.labelled(field.name)))
    what = F.lit(None).cast("array<string>")
    if unread:
        # By a text: functions with a lambda keep Spark from compiling the whole of the pass.
        texts = F.concat_ws(SEPARATOR, *(F.when(failed, label) for failed, label in unread))
        listed = F.split(texts, SEPARATOR)
        what = F.when(functools.reduce(operator.or_, (failed for failed, _ in unread)), listed)
    raw = F.coalesce(*malformed).cast("string").alias(MALFORMED)
    return frame.select(*columns, raw, what.alias(UNREAD), PLACE)


def _is_text(frame: DataFrame, field: pa.Field) -> bool:
    return isinstance(frame.schema[field.name].dataType, StringType)

"""Tables of part files that the tasks write themselves: exact Arrow types, reproducible bytes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from components.shared.artifacts.outputs import atomic_folder
from components.shared.artifacts.storage import Folder, download, is_remote, remove, upload
from components.shared.errors import DataError


@contextmanager
def part_writer(folder: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Yield the writer of the task's part file in `folder`; a retry replaces it."""
    target, context = Folder.at(folder), TaskContext.get()
    if not is_remote(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
    path = f"{target.root}/part-{context.partitionId() if context else 0:05d}.parquet"
    with pq.ParquetWriter(path, schema, filesystem=target.store) as writer:
        yield writer


@contextmanager
def atomic_table(table: str | Path) -> Iterator[str | Path]:
    """Yield a folder for the part files of `table`: all of them appear, or none."""
    if not is_remote(str(table)):
        with atomic_folder(Path(table)) as folder:
            yield folder
        return
    # Object storage has no renaming: parts appear one by one, and are removed if the block fails and by the
    # next try. No reader sees them before, because it starts after the step has ended well.
    remove(table)
    try:
        yield table
    except BaseException:
        with suppress(DataError):  # the first error explains more
            remove(table)
        raise


@contextmanager
def shared_with_tasks(folder: Path, staging: str | None) -> Iterator[str | Path]:
    """Yield where tasks read and write the files of the driver's local `folder`.

    That is `folder` itself or, for remote executors, the s3:// URI `staging`, which is removed again.
    """
    if staging is None:
        yield folder
        return
    with atomic_table(staging):
        for file in folder.iterdir():
            upload(file, f"{staging}/{file.name}")
        yield staging
        download(staging, folder)
    remove(staging)


def write_parts(
    frame: DataFrame,
    schema: pa.Schema,
    folder: str | Path,
    rows_of: Callable[[pa.Table], pa.Table] | None = None,
) -> int:
    """Write `frame`, each batch through `rows_of`, as Parquet with `schema`; return the number of rows."""
    target = str(folder)

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = 0
        with part_writer(target, schema) as part:
            for batch in batches:
                table = pa.Table.from_batches([batch])
                part.write_table(conform(rows_of(table) if rows_of else table, schema))
                rows += batch.num_rows
        yield pa.record_batch({"rows": [rows]})

    rows = sum(row.rows for row in frame.mapInArrow(write, "rows long").collect())
    if not rows:  # Spark starts no task for an empty frame
        with part_writer(target, schema):
            pass
    return rows


def read_parts(spark: SparkSession, table: str | Path, schema: pa.Schema) -> DataFrame:
    """Return the Parquet files of `table` as a frame of `schema`. Raises DataError."""
    folder = Folder.at(table)
    names = [entry.base_name for entry in folder.entries() if entry.is_file]
    files = [name for name in names if name.endswith(".parquet") and not name.startswith((".", "_"))]
    if not files:
        raise DataError(f"{folder.uri}: no Parquet files; did the step that writes it finish?")
    try:
        found = pq.read_schema(f"{folder.root}/{files[0]}", filesystem=folder.store)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{folder.shown(files[0])}: not a readable Parquet file ({error}); run the step again"
        ) from error
    if missing := [name for name in schema.names if name not in found.names]:
        raise DataError(f"{folder.uri}: column '{missing[0]}' is missing (found: {', '.join(found.names)})")
    # A folder and a filter: Spark starts a job of its own to list more than a few dozen paths.
    return spark.read.schema(from_arrow_schema(schema)).parquet(folder.spark(), pathGlobFilter="*.parquet")


def relaxed(kind: pa.DataType) -> pa.DataType:
    """Return `kind` with every nested field nullable."""
    if pa.types.is_list(kind):
        return pa.list_(relaxed(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, relaxed(field.type)) for field in kind])
    return kind


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return `schema`'s columns in its exact types. Raises ValueError: a required field is null."""
    return table.select(schema.names).cast(schema)

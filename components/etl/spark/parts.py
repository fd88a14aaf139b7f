"""Tables of part files that the tasks write themselves: exact Arrow types, reproducible bytes."""

import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from components.etl.spark.types import conform
from components.shared.artifacts.outputs import atomic_folder
from components.shared.artifacts.storage import Folder, download, is_remote, remove, upload
from components.shared.errors import DataError

ROW_GROUP = 50_000


class PartWriter:
    """Writer of the running task's part file, which appears whole or not at all; a retry replaces it.

    `folder` is a path or an s3:// URI; a file for the latter is first written to the task's own disk.
    """

    def __init__(self, folder: str, schema: pa.Schema) -> None:
        context = TaskContext.get()
        number = context.partitionId() if context else 0
        self.rows = 0
        name = f"part-{number:05d}.parquet"
        self._target = f"{folder}/{name}"
        self._is_remote = is_remote(folder)
        scratch = os.environ.get("SPARK_LOCAL_DIRS", tempfile.gettempdir()).split(",")[0]
        beside = Path(scratch) if self._is_remote else Path(folder)
        beside.mkdir(parents=True, exist_ok=True)
        self._partial = beside / f".{name}.{uuid.uuid4().hex}"
        self._writer = pq.ParquetWriter(self._partial, schema)

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            self._writer.close()
            if kind is None and self._is_remote:
                upload(self._partial, self._target)
            elif kind is None:
                os.replace(self._partial, self._target)
        finally:
            self._partial.unlink(missing_ok=True)

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        self._writer.write_table(table, row_group_size=ROW_GROUP)
        self.rows += table.num_rows


@contextmanager
def atomic_table(table: str | Path) -> Iterator[str | Path]:
    """Yield the folder for the part files of a table that appears at `table` whole or not at all."""
    if not is_remote(str(table)):
        with atomic_folder(Path(table)) as folder:
            yield folder
            for leftover in folder.rglob(".part-*"):  # of a killed or superseded task
                leftover.unlink()
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
def written_by_tasks(folder: Path, staging: str | None) -> Iterator[str | Path]:
    """Yield where tasks write files that the driver then reads in the local `folder`.

    That is `folder` itself or, for remote executors, the s3:// URI `staging`, which is removed again.
    """
    if staging is None:
        yield folder
        return
    with atomic_table(staging):
        yield staging
        download(staging, folder)
    remove(staging)


@contextmanager
def read_by_tasks(folder: Path, staging: str | None) -> Iterator[str | Path]:
    """Yield where tasks read the files of the driver's local `folder`; `staging` as above."""
    if staging is None:
        yield folder
        return
    with atomic_table(staging):
        for file in folder.iterdir():
            upload(file, f"{staging}/{file.name}")
        yield staging
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
        with PartWriter(target, schema) as part:
            for batch in batches:
                table = pa.Table.from_batches([batch])
                part.write(conform(rows_of(table) if rows_of else table, schema))
        yield pa.record_batch({"rows": [part.rows]})

    rows = sum(row.rows for row in frame.mapInArrow(write, "rows long").collect())
    if not _has_parts(folder):
        if rows:
            raise DataError(
                f"{folder}: {rows:,} rows were written where this process cannot see them; remote "
                "executors need a folder that they share with the driver, or an s3:// pipeline root"
            )
        with PartWriter(target, schema):  # Spark starts no task for an empty frame
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
    for field in schema:
        if field.name not in found.names:
            raise DataError(
                f"{folder.uri}: column '{field.name}' is missing (found: {', '.join(found.names)})"
            )
    # A folder and a filter: Spark starts a job of its own to list more than a few dozen paths.
    return spark.read.schema(from_arrow_schema(schema)).parquet(folder.spark(), pathGlobFilter="*.parquet")


def _has_parts(folder: str | Path) -> bool:
    try:
        return any(file.base_name.startswith("part-") for file in Folder.at(folder).entries())
    except DataError:
        return False

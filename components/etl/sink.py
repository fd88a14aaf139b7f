"""Writing tables from inside the tasks: one part file a partition, exact Arrow types, repeatable bytes."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import DataFrame

from components.etl.types import conform
from components.shared.errors import DataError

ROW_GROUP = 50_000


class PartWriter:
    """One part file of the running task, in place only once it is whole; a repeated attempt replaces it."""

    def __init__(self, folder: str, schema: pa.Schema) -> None:
        context = TaskContext.get()
        number, attempt = (context.partitionId(), context.taskAttemptId()) if context else (0, 0)
        self.partition, self.rows = number, 0
        self._path = Path(folder) / f"part-{number:05d}.parquet"
        self._partial = self._path.with_name(f".{self._path.name}.{attempt}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._partial, schema)

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._writer.close()
        if kind is None:
            os.replace(self._partial, self._path)
        else:
            self._partial.unlink(missing_ok=True)

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        self._writer.write_table(table, row_group_size=ROW_GROUP)
        self.rows += table.num_rows


def write_parts(
    frame: DataFrame, schema: pa.Schema, folder: Path, rows_of: Callable[[pa.Table], pa.Table] | None = None
) -> int:
    """Write `frame`, each batch through `rows_of`, as Parquet part files with exactly `schema`.

    Returns the number of rows.
    """
    target = str(folder)

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with PartWriter(target, schema) as part:
            for batch in batches:
                table = pa.Table.from_batches([batch])
                part.write(conform(rows_of(table) if rows_of else table, schema))
        yield pa.record_batch({"rows": [part.rows]})

    rows = sum(row.rows for row in frame.mapInArrow(write, "rows long").collect())
    if not any(Path(folder).glob("part-*.parquet")):
        if rows:
            raise DataError(
                f"{folder}: {rows:,} rows were written where this process cannot see them; Spark's executors "
                "must share this folder with the driver"
            )
        # Spark starts no task for an empty partition.
        pq.write_table(schema.empty_table(), Path(folder) / "part-00000.parquet")
    return rows

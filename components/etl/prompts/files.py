"""The three files of the prompts table: rows in order, in row groups of fixed size."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.etl.spark.types import conform, relaxed
from data_contracts import tables

GROUP_ROWS = 1024
# Rows on their way: everything may be null, because a row with a problem has nothing else.
RENDERED = pa.schema(
    [
        *(pa.field(field.name, relaxed(field.type)) for field in tables.PROMPTS),
        pa.field("history_cut", pa.int32()),
        pa.field("problem", pa.string()),
        pa.field("leak", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class SplitFile:
    """Counts of one file; `label_numbers` are the candidate numbers of first labels that are listed."""

    rows: int
    history_cut: int
    label_numbers: tuple[int, ...]

    @property
    def recall(self) -> float:
        """Return the share of prompts that list a label: the ceiling of any reranking. 0 for no rows."""
        return len(self.label_numbers) / self.rows if self.rows else 0.0


def write_split(staged: Path, split: str, folder: Path) -> SplitFile:
    """Write the RENDERED rows of `split` in `staged` (part files in order) to `folder`/SPLIT.parquet.

    The bytes depend on the rows and their order alone, not on how they were cut into part files.
    """
    rows = cut = 0
    numbers: list[int] = []
    with pq.ParquetWriter(folder / f"{split}.parquet", tables.PROMPTS) as writer:
        for group in _groups(_rows_of(staged, split)):
            cut += pc.sum(group.column("history_cut")).as_py() or 0
            numbers += [labels[0] for labels in group.column("labels").to_pylist() if labels]
            writer.write_table(conform(group, tables.PROMPTS))
            rows += group.num_rows
    return SplitFile(rows=rows, history_cut=cut, label_numbers=tuple(numbers))


def first_of(staged: Path, column: str) -> tuple[int, str]:
    """Return how many rows of `staged` have text in `column`, and the first of these texts ("" if none)."""
    found = pq.read_table(staged, columns=[column]).column(column).drop_null()
    return len(found), found[0].as_py() if len(found) else ""


def _rows_of(staged: Path, split: str) -> Iterator[pa.Table]:
    for file in sorted(staged.glob("part-*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(GROUP_ROWS):
            yield pa.Table.from_batches([batch]).filter(pc.field("split") == split)


def _groups(parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Regroup into tables of GROUP_ROWS rows; the last may be shorter, none is empty."""
    held = RENDERED.empty_table()
    for part in parts:
        held = pa.concat_tables([held, part])
        while held.num_rows >= GROUP_ROWS:
            yield held.slice(0, GROUP_ROWS)
            held = held.slice(GROUP_ROWS)
    if held.num_rows:
        yield held

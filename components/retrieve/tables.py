"""Writing ranked lists as the tables CANDIDATES and RANKINGS."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.retrieve.interactions import Examples, Interactions, Ints
from components.retrieve.ranking import Ranked
from data_contracts.tables import CANDIDATES, RANKINGS

ROWS = 1 << 16
"""Rows a record batch: the ids of one batch are all the text that is held at a time."""


class TableWriter:
    """Appends ranked lists to one Parquet file of `folder`; use as a context manager."""

    def __init__(self, folder: Path, schema: pa.Schema, data: Interactions) -> None:
        self.schema, self.data = schema, data
        self.user_ids, self.item_ids = pa.array(data.user_ids), pa.array(data.item_ids)
        self.file = pq.ParquetWriter(folder / "part-00000.parquet", schema)

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _write(self, columns: dict[str, pa.Array]) -> None:
        self.file.write_table(pa.table(columns, schema=self.schema))

    def _common(self, split: str, examples: Examples, ranked: Ranked) -> dict[str, pa.Array]:
        offsets = np.concatenate([[0], np.cumsum((ranked.items >= 0).sum(1))]).astype(np.int32)
        flat = pa.array(ranked.items[ranked.items >= 0])
        return {
            "user_id": self.user_ids.take(pa.array(examples.users)),
            "split": pa.repeat(split, len(examples)),
            "position": pa.array(examples.position.astype(np.int32)),
            "item_ids": pa.ListArray.from_arrays(offsets, self.item_ids.take(flat)),
            "scores": pa.ListArray.from_arrays(
                offsets, pa.array(ranked.scores[ranked.items >= 0].astype(np.float32))
            ),
        }

    def candidates(self, split: str, examples: Examples, ranked: Ranked, fold: Ints) -> None:
        """Append rows of CANDIDATES; `fold` [rows] is the fold held out of the model, -1 for none."""
        for rows in _slices(len(examples)):
            part = Ranked(ranked.items[rows], ranked.scores[rows])
            columns = self._common(split, examples.take(rows), part)
            self._write(columns | {"fold": pa.array(fold[rows].astype(np.int32))})

    def rankings(self, model: str, split: str, examples: Examples, ranked: Ranked) -> None:
        """Append rows of RANKINGS."""
        for rows in _slices(len(examples)):
            part = Ranked(ranked.items[rows], ranked.scores[rows])
            columns = self._common(split, examples.take(rows), part)
            del columns["scores"]
            self._write(columns | {"model": pa.repeat(model, len(rows))})


def _slices(count: int) -> list[Ints]:
    return [np.arange(start, min(start + ROWS, count)) for start in range(0, count, ROWS)]


def candidates_table(folder: Path, data: Interactions) -> TableWriter:
    """Return a writer of CANDIDATES in `folder`."""
    return TableWriter(folder, CANDIDATES, data)


def rankings_table(folder: Path, data: Interactions) -> TableWriter:
    """Return a writer of RANKINGS in `folder`."""
    return TableWriter(folder, RANKINGS, data)

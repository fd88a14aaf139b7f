"""The tables that evaluate reads: sampled test prompts, the catalogue's statistics, the rankings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from components.shared.artifacts.storage import Folder
from components.shared.errors import DataError
from components.shared.metrics import Floats, TagSets, self_information
from components.shared.prompting.table import PromptRow, read_prompts

SPLIT = "test"
DEPTH = 10
"""Metrics read the first ten items of a ranking."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What metrics need of every item, by its place in `titles`, unknown items last.

    `novelty` (bits) and `train_counts` [item + 1] are counted on train positions only.
    """

    titles: dict[str, str]
    tags: TagSets
    novelty: Floats
    train_counts: Floats

    def __len__(self) -> int:
        return len(self.titles)

    def train_count(self, item: str) -> float:
        """Return the item's interactions in the train part; 0 if unknown."""
        return self.train_counts[self._places.get(item, -1)]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {item: place for place, item in enumerate(self.titles)}

    @property
    def head(self) -> frozenset[str]:
        """Return the most popular fifth of the items; of equal ones the first by id."""
        ids = list(self.titles)
        order = sorted(range(len(ids)), key=lambda i: (-self.train_counts[i], ids[i]))
        return frozenset(ids[i] for i in order[: len(ids) // 5])


def catalogue_of(
    titles: Mapping[str, str], tags: Sequence[Iterable[str]], counts: Sequence[int]
) -> Catalogue:
    """Return the catalogue, given titles by item id, each item's tags and train count."""
    total = sum(counts)
    return Catalogue(
        titles=dict(titles),
        tags=TagSets.of([*tags, ()]),
        novelty=np.array([self_information(count, total, len(titles)) for count in (*counts, 0)]),
        train_counts=np.array([*counts, 0], np.float64),
    )


def sample_prompts(folder: Path, max_users: int, seed: int) -> tuple[list[PromptRow], int]:
    """Return a seeded sample of `max_users` (0: all) test prompts, and the number of all."""
    rows, path = read_prompts(folder, SPLIT, max_users, seed), folder / f"{SPLIT}.parquet"
    if not rows:
        raise DataError(f"{path}: no rows, so there are no users to evaluate on")
    for row in rows:
        if not row.label_items or not row.candidates:
            missing = "candidates" if row.label_items else "label_items"
            raise DataError(f"{path}: user {row.user_id} at position {row.position} has no {missing}")
    return rows, pq.read_metadata(path).num_rows


def read_catalogue(folder: Path) -> Catalogue:
    """Return the catalogue table, whose `train_count` is of train positions only."""
    table = _read(folder, ["item_id", "title", "tags", "train_count"])
    if not table.num_rows:
        raise DataError(f"{folder}: the catalogue is empty")
    titles = dict(zip(table["item_id"].to_pylist(), table["title"].to_pylist(), strict=True))
    return catalogue_of(titles, table["tags"].to_pylist(), table["train_count"].to_pylist())


def read_rankings(folder: Path, prompts: Sequence[PromptRow]) -> dict[str, list[list[str]]]:
    """Return the first ten items for every prompt, by the models of the rankings table."""
    users = pa.array(sorted({row.user_id for row in prompts}), pa.string())
    columns = {name: pc.field(name) for name in ("model", "user_id", "position")}
    columns["items"] = pc.list_slice(pc.field("item_ids"), 0, DEPTH)
    table = _read(folder, columns, (pc.field("split") == SPLIT) & pc.field("user_id").isin(users))
    ranked: dict[str, dict[tuple[str, int], list[str]]] = {}
    for row in table.to_pylist():
        ranked.setdefault(row["model"], {})[row["user_id"], row["position"]] = row["items"]
    if not ranked:
        raise DataError(f"{folder}: no rankings of split '{SPLIT}' for the users of the prompts table")
    for model, rows in ranked.items():
        missing = next((row for row in prompts if (row.user_id, row.position) not in rows), None)
        if missing:
            raise DataError(
                f"{folder}: model '{model}' has no {SPLIT} row for user {missing.user_id} at position "
                f"{missing.position}; rankings and prompts must come from the same run"
            )
    return {
        model: [rows[row.user_id, row.position] for row in prompts] for model, rows in sorted(ranked.items())
    }


def dataset(location: str) -> ds.Dataset:
    """Return a table where it lies, in a folder or at an s3:// URI."""
    folder = Folder.at(location)
    return ds.dataset(folder.root, format="parquet", filesystem=folder.store)


def _read(
    folder: Path, columns: list[str] | dict[str, pc.Expression], rows: pc.Expression | None = None
) -> pa.Table:
    if not folder.exists():
        raise DataError(f"{folder}: no such table; run the step that writes it")
    try:
        return ds.dataset(str(folder), format="parquet").to_table(columns=columns, filter=rows)
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise DataError(f"{folder}: not a table with columns {', '.join(columns)} ({error})") from error

"""Reading the prompts table: what would train on noise, or end in a traceback, is refused by name."""

import copy
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.shared.errors import DataError
from components.shared.prompting import table
from components.shared.prompting.table import PromptRow, read_prompts
from data_contracts.tables import PROMPTS


def shorter(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda row: row[name].pop()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda row: row.update(messages=[]), "the prompt of user .* has no text"),
        (lambda row: row.update(answer_length=0), "answer_length of user .* is 0"),
        (lambda row: row.update(candidates=["a"] * len(row["tags"])), "repeat"),
        (lambda row: row.update(labels=[99]), "is no candidate's number"),
        (shorter("scores"), "scores of user"),
        (shorter("titles"), "titles of user"),
        (shorter("tags"), "tags of user"),
        (shorter("novelty"), "novelty of user"),
        (shorter("seen"), "seen of user"),
        (shorter("age_days"), "age_days of user"),
        (shorter("label_weights"), "label_weights of user"),
        (lambda row: row.update(label_items=["i"]), "is not among its label_items"),
    ],
    ids=[
        "no text",
        "length",
        "repeated",
        "label",
        "scores",
        "titles",
        "tags",
        "novelty",
        "seen",
        "age_days",
        "label_weights",
        "label_items",
    ],
)
def test_a_row_that_cannot_be_scored_is_refused(
    prompts_folder: Path, tmp_path: Path, damage: Callable[[dict[str, Any]], None], message: str
) -> None:
    rows = pq.read_table(prompts_folder / "train.parquet").to_pylist()
    damaged = copy.deepcopy(rows[0])
    damage(damaged)
    pq.write_table(pa.Table.from_pylist([*rows, damaged]), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=rf"train\.parquet: not a prompts table .*{message}"):
        read_prompts(tmp_path, "train")


def test_a_row_has_the_columns_of_the_table_and_gives_them_back(prompts_folder: Path) -> None:
    assert {field.name for field in fields(PromptRow)} == {*PROMPTS.names}
    rows = pq.read_table(prompts_folder / "train.parquet").to_pylist()
    assert [vars(row) for row in read_prompts(prompts_folder, "train")] == rows
    row = read_prompts(prompts_folder, "train", 1)[0]
    assert row.gains == {row.candidates[row.labels[0] - 1]: 2.0}


def test_a_file_is_read_in_batches(prompts_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_prompts(prompts_folder, "train")
    labelled = [row for row in whole if row.labels]
    assert len(labelled) > 3
    monkeypatch.setattr(table, "BATCH", 3)
    assert read_prompts(prompts_folder, "train") == whole
    assert read_prompts(prompts_folder, "train", listed=True) == labelled
    for rows, listed in ((whole, False), (labelled, True)):
        chosen = [rows[i] for i in table.sample_indices(len(rows), 3, 1)]
        assert read_prompts(prompts_folder, "train", 3, 1, listed=listed) == chosen


def test_a_damaged_file_is_told(prompts_folder: Path, tmp_path: Path) -> None:
    contents = bytearray((prompts_folder / "train.parquet").read_bytes())
    contents[-400:-8] = bytes(392)
    (tmp_path / "train.parquet").write_bytes(contents)
    with pytest.raises(DataError, match="not a prompts table"):
        read_prompts(tmp_path, "train")

"""Reading the prompts table (schema `data_contracts.tables.PROMPTS`), a file a split."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.artifacts.outputs import atomic_file
from components.shared.errors import DataError


@dataclass(frozen=True, kw_only=True)
class PromptRow:
    """One prompt with what is needed to score its answers; candidate numbers are 1-based.

    Attributes:
        messages: chat messages, the user's last.
        labels: candidate numbers of the retrieved labels, in label order.
        candidates: item ids in prompt order; tags, novelty, seen and age_days: one entry for each.
        seen: whether the history holds the candidate.
        age_days: of the candidate when the label happened; None where its creation is not known.
        label_items: ids of all labels, also of those that were not retrieved.
        completion: the answer that SFT teaches, or None.
    """

    user_id: str
    position: int
    messages: list[dict[str, str]]
    labels: list[int]
    candidates: list[str]
    tags: list[list[str]]
    novelty: list[float]
    seen: list[bool]
    age_days: list[float | None]
    label_items: list[str]
    answer_length: int
    completion: str | None


def read_prompts(folder: Path, split: str, limit: int = 0, seed: int = 0) -> list[PromptRow]:
    """Return the prompts of `split` in table order, a seeded sample of `limit` of them if it is positive.

    Raises:
        DataError: the file is missing or is not a prompts table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(folder) / f"{split}.parquet"
    try:
        table = pq.read_table(path)
        rows = pa.array(drawn(table.num_rows, limit, seed), pa.int64())
        return [_row(row) for row in table.take(rows).to_pylist()]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; the prompts step writes one a split") from error
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a prompts table ({type(error).__name__}: {error})") from error


def drawn(size: int, limit: int, seed: int) -> list[int]:
    """Return the places of a seeded sample of `limit` of `size` rows, in order; all if `limit` is 0."""
    if not 0 < limit < size:
        return list(range(size))
    return sorted(random.Random(seed).sample(range(size), limit))


def row_of(
    messages: Sequence[Mapping[str, str]],
    ground_truth: Mapping[str, Any],
    extra_info: Mapping[str, Any],
    completion: str | None = None,
) -> PromptRow:
    """Return the row that these columns of the table say; verl hands rewards the second and the third."""
    return PromptRow(
        user_id=extra_info["user_id"],
        position=extra_info["position"],
        messages=[dict(message) for message in messages],
        labels=list(ground_truth["labels"]),
        candidates=list(extra_info["candidates"]),
        tags=[list(tags) for tags in extra_info["tags"]],
        novelty=list(extra_info["novelty"]),
        seen=list(extra_info["seen"]),
        age_days=list(extra_info["age_days"]),
        label_items=list(extra_info["label_items"]),
        answer_length=extra_info["answer_length"],
        completion=completion,
    )


def record_of(row: PromptRow, /, **ground_truth: Any) -> dict[str, Any]:
    """Return what `row_of` reads as a row of verl's columns; `ground_truth` adds keys of the caller's own."""
    return {
        "data_source": "recllm",
        "prompt": row.messages,
        "ability": "recommendation",
        "reward_model": {"style": "rule", "ground_truth": {"labels": row.labels, **ground_truth}},
        "extra_info": {
            "user_id": row.user_id,
            "position": row.position,
            "candidates": row.candidates,
            "tags": row.tags,
            "novelty": row.novelty,
            "seen": row.seen,
            "age_days": row.age_days,
            "label_items": row.label_items,
            "answer_length": row.answer_length,
        },
    }


def write_records(path: Path, rows: Sequence[PromptRow]) -> None:
    """Write `rows` as Parquet for verl; `ground_truth.row` tells in its dumps whose answers they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([record_of(row, row=n) for n, row in enumerate(rows)])
    with atomic_file(path) as partial:
        pq.write_table(table, partial)


def _row(row: Mapping[str, Any]) -> PromptRow:
    truth = row["reward_model"]["ground_truth"]
    read = row_of(row["prompt"], truth, row["extra_info"], row.get("completion"))
    numbers, length = range(1, len(read.candidates) + 1), read.answer_length
    if not read.messages or not all(isinstance(one.get("content"), str) for one in read.messages):
        raise ValueError(f"the prompt of user {read.user_id!r} has no text")
    if not isinstance(length, int) or length < 1:
        raise ValueError(f"the answer_length of user {read.user_id!r} is {length!r}, must be at least 1")
    for name in ("tags", "novelty", "seen", "age_days"):
        if len(getattr(read, name)) != len(read.candidates):
            raise ValueError(f"{name} of user {read.user_id!r} has not as many entries as candidates")
    if len(set(read.candidates)) != len(read.candidates):
        raise ValueError(f"the candidates of user {read.user_id!r} repeat")
    if not all(label in numbers for label in read.labels):
        raise ValueError(f"a label of user {read.user_id!r} is no candidate's number: {read.labels}")
    return read

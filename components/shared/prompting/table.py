"""Reading the prompts table (schema `data_contracts.tables.PROMPTS`), one file per split."""

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from components.shared.errors import DataError

BATCH = 1024
"""Rows of the file that are read at a time."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a model is asked: chat messages, or titles of history and candidates."""

    messages: list[dict[str, str]]
    titles: list[str]
    history: list[str]


@dataclass(frozen=True, kw_only=True)
class PromptRow(Asked):
    """A prompt with what is needed to score its answers; `data_contracts.tables.PROMPTS` has the columns."""

    user_id: str
    split: str
    position: int
    labels: list[int]
    label_items: list[str]
    label_weights: list[float]
    answer_length: int
    candidates: list[str]
    scores: list[float]
    teacher: list[float] | None = None
    tags: list[list[str]]
    novelty: list[float]
    seen: list[bool]
    age_days: list[float | None]
    days_since_last: float | None
    groups: list[str]
    completion: str | None

    @property
    def gains(self) -> dict[str, float]:
        """Return the engagement weight of each label by its item id."""
        return dict(zip(self.label_items, self.label_weights, strict=True))


def read_prompts(
    folder: Path, split: str, limit: int = 0, seed: int = 0, *, listed: bool = False
) -> list[PromptRow]:
    """Return the prompts of `split` in table order, a seeded sample if `limit` is positive.

    With `listed` they are those with a label among their candidates, if there are any.

    Raises DataError: the file is missing or is not a prompts table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(folder) / f"{split}.parquet"
    try:
        with pq.ParquetFile(path) as file:
            eligible: Sequence[int] = range(file.metadata.num_rows)
            if listed:
                labels = file.read(["labels"])["labels"].to_pylist()
                eligible = [n for n, own in enumerate(labels) if own] or eligible
            chosen = [eligible[i] for i in sample_indices(len(eligible), limit, seed)]
            rows: list[PromptRow] = []
            start = 0
            # Batch by batch: a column of texts as one array ends at 2 GiB, and a sample needs few rows.
            for batch in file.iter_batches(BATCH, columns=[field.name for field in fields(PromptRow)]):
                end = start + batch.num_rows
                own = chosen[bisect_left(chosen, start) : bisect_left(chosen, end)]
                taken = batch.take(pa.array([n - start for n in own], pa.int64()))
                rows += [PromptRow(**row) for row in taken.to_pylist()]
                start = end
        for row in rows:
            _check(row)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; the prompts step writes one per split") from error
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a prompts table ({type(error).__name__}: {error})") from error
    return rows


def sample_indices(size: int, limit: int, seed: int) -> list[int]:
    """Return sorted indices of a seeded sample of `limit` rows; all if `limit` is 0."""
    if not 0 < limit < size:
        return list(range(size))
    return sorted(random.Random(seed).sample(range(size), limit))


def _check(row: PromptRow) -> None:
    """Raise ValueError if answers to `row` cannot be scored."""
    if not row.messages or not all(isinstance(message.get("content"), str) for message in row.messages):
        raise ValueError(f"the prompt of user {row.user_id!r} has no text")
    if row.answer_length < 1:
        raise ValueError(f"the answer_length of user {row.user_id!r} is {row.answer_length}, not at least 1")
    for name in ("scores", "titles", "tags", "novelty", "seen", "age_days"):
        if len(getattr(row, name)) != len(row.candidates):
            raise ValueError(f"{name} of user {row.user_id!r} has not as many entries as candidates")
    if row.teacher is not None and len(row.teacher) != len(row.candidates):
        raise ValueError(f"teacher of user {row.user_id!r} has not as many entries as candidates")
    if len(row.label_weights) != len(row.label_items):
        raise ValueError(f"label_weights of user {row.user_id!r} has not as many entries as label_items")
    if len(set(row.candidates)) != len(row.candidates):
        raise ValueError(f"the candidates of user {row.user_id!r} repeat")
    if not all(1 <= label <= len(row.candidates) for label in row.labels):
        raise ValueError(f"a label of user {row.user_id!r} is no candidate's number: {row.labels}")
    if not {row.candidates[label - 1] for label in row.labels} <= set(row.label_items):
        raise ValueError(f"a label of user {row.user_id!r} is not among its label_items")

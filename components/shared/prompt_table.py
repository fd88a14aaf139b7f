"""Reading the prompts table (schema `data_contracts.tables.PROMPTS`), a file a split."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.errors import DataError


@dataclass(frozen=True, kw_only=True)
class PromptRow:
    """One prompt with what is needed to score its answers; candidate numbers are 1-based.

    Attributes:
        messages: chat messages, the user's last.
        labels: candidate numbers of the retrieved labels, in label order.
        candidates: item ids in prompt order; tags and novelty: one entry for each.
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
    except (pa.ArrowInvalid, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a prompts table ({type(error).__name__}: {error})") from error


def drawn(size: int, limit: int, seed: int) -> list[int]:
    """Return the places of a seeded sample of `limit` of `size` rows, in order; all if `limit` is 0."""
    if not 0 < limit < size:
        return list(range(size))
    return sorted(random.Random(seed).sample(range(size), limit))


def _row(row: Mapping[str, Any]) -> PromptRow:
    info, truth = row["extra_info"], row["reward_model"]["ground_truth"]
    return PromptRow(
        user_id=info["user_id"],
        position=info["position"],
        messages=row["prompt"],
        labels=truth["labels"],
        candidates=info["candidates"],
        tags=info["tags"],
        novelty=info["novelty"],
        label_items=info["label_items"],
        answer_length=info["answer_length"],
        completion=row.get("completion"),
    )

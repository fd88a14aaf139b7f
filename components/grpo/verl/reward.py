"""What verl reads and calls of ours: its dataset, and the reward, for which it loads this file by its path.

https://verl.readthedocs.io/en/latest/preparation/prepare_data.html and .../reward_function.html
"""

import functools
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from components.grpo.config import RewardWeights
from components.grpo.rewards import Term, business_terms, score
from components.shared.artifacts.outputs import atomic_file
from components.shared.config import from_mapping
from components.shared.prompting.table import PromptRow

RESOLUTION = 2**16
"""Steps per unit of reward. verl normalises in float32: the mean of equal rewards is exact only if they have
bits to spare, and its error, over a deviation near zero, would push the policy where nothing is to choose."""

ANSWER_ID = "recllm_answer_id"
"""Key of `extra_info` under which the agent loop names the answer, as verl's dumps do."""


def write_dataset(path: Path, rows: Sequence[PromptRow]) -> None:
    """Write `rows` as Parquet; the ground truth is the row's index, for verl's dumps."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from data_contracts.tables import PROMPTS

    schema = pa.schema(
        [
            pa.field("data_source", pa.string()),
            pa.field("prompt", PROMPTS.field("messages").type),
            pa.field("reward_model", pa.struct({"ground_truth": pa.int64()})),
            pa.field("extra_info", pa.struct(list(PROMPTS))),
        ]
    )
    records = [
        {
            "data_source": "recllm",
            "prompt": row.messages,
            "reward_model": {"ground_truth": index},
            "extra_info": vars(row),
        }
        for index, row in enumerate(rows)
    ]
    with atomic_file(path) as partial:
        pq.write_table(pa.Table.from_pylist(records, schema=schema), partial)


def row_of(extra_info: Mapping[str, Any]) -> PromptRow:
    """Return the row that verl hands a reward as `extra_info`, among entries of its own."""
    return PromptRow(**{field.name: extra_info[field.name] for field in fields(PromptRow)})


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: int,
    extra_info: Mapping[str, Any],
    weights: str = "{}",
    prefix: str = "",
    terms_folder: str = "",
    **_: Any,
) -> float:
    """Return the reward of one answer; append its terms to this process's file in `terms_folder`.

    `weights` is JSON of RewardWeights; `prefix` is what the chat template already writes of the answer.
    """
    terms = score(prefix + solution_str, row_of(extra_info), *_weights(weights))
    # verl dumps sampled answers without their terms. One write per line: threads must not mix them.
    line = json.dumps({ANSWER_ID: extra_info[ANSWER_ID], **terms}) + "\n"
    os.write(_terms_file(terms_folder), line.encode())
    return round(terms["reward"] * RESOLUTION) / RESOLUTION


@functools.cache
def _weights(text: str) -> tuple[RewardWeights, dict[str, Term]]:
    weights = from_mapping(RewardWeights, json.loads(text), "grpo.reward")
    return weights, business_terms(weights)


@functools.cache
def _terms_file(folder: str) -> int:
    return os.open(Path(folder) / f"{uuid.uuid4()}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

"""The reward as verl calls it: verl loads this file by its path and calls `compute_score`.

https://verl.readthedocs.io/en/latest/preparation/reward_function.html
"""

import functools
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.grpo.config import RewardWeights
from components.grpo.rewards import Term, business_terms, score
from components.grpo.verl.dataset import row_of
from components.shared.config import parse

RESOLUTION = 2**16
"""Steps per unit of reward. verl normalises in float32: the mean of equal rewards is exact only if they have
bits to spare, and its error, over a deviation near zero, would push the policy where nothing is to choose."""

ANSWER_ID = "recllm_answer_id"
"""Key of `extra_info` under which the agent loop names the answer, as verl's dumps do."""


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

    Raises:
        ConfigError: the weights name an unknown term, or a term of the user's fails.
    """
    terms = score(prefix + solution_str, row_of(extra_info), *_weights(weights))
    # verl dumps sampled answers without their terms. One write per line: threads must not mix them.
    line = json.dumps({ANSWER_ID: extra_info[ANSWER_ID], **terms}) + "\n"
    os.write(_terms_file(terms_folder), line.encode())
    return round(terms["reward"] * RESOLUTION) / RESOLUTION


@functools.cache
def _weights(text: str) -> tuple[RewardWeights, dict[str, Term]]:
    weights = parse(RewardWeights, text, "grpo.reward")
    return weights, business_terms(weights)


@functools.cache
def _terms_file(folder: str) -> int:
    return os.open(Path(folder) / f"{uuid.uuid4()}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

"""The reward as verl asks for it: verl loads this file by its path and calls `compute_score`.

https://verl.readthedocs.io/en/latest/preparation/reward_function.html
"""

import functools
from collections.abc import Mapping
from typing import Any

from components.grpo.config import RewardWeights
from components.grpo.rewards import Term, business_terms, score
from components.shared.config import parse
from components.shared.prompt_table import row_of


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Mapping[str, Any],
    extra_info: Mapping[str, Any],
    weights: str = "{}",
    prefix: str = "",
    **_: Any,
) -> dict[str, float]:
    """Return the reward as "score", and every term beside it.

    `weights` is JSON of RewardWeights; `prefix` is what the chat template already writes of the answer.

    Raises:
        ConfigError: the weights name a term that is not there, or a term of the user's fails.
    """
    row = row_of([], ground_truth, extra_info)
    config, business = _weights(weights)
    terms = score(prefix + solution_str, row, config, business)
    return {"score": terms.pop("reward"), **terms}


@functools.cache
def _weights(text: str) -> tuple[RewardWeights, dict[str, Term]]:
    weights = parse(RewardWeights, text, "grpo.reward")
    return weights, business_terms(weights)

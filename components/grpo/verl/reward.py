"""The reward as verl asks for it: verl loads this file by its path and calls `compute_score`.

https://verl.readthedocs.io/en/latest/preparation/reward_function.html
"""

import functools
from collections.abc import Mapping
from typing import Any

from components.grpo.config import RewardWeights
from components.grpo.rewards import Term, business_terms, score
from components.shared.config import parse
from components.shared.prompting.table import row_of

STEPS_OF_ONE = 2**16
"""verl normalises in float32: the mean of equal rewards is exact only if they have bits to spare, and what
it is off by, over a deviation near zero, would push the policy though there is nothing to choose."""


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
    return {"score": round(terms.pop("reward") * STEPS_OF_ONE) / STEPS_OF_ONE, **terms}


@functools.cache
def _weights(text: str) -> tuple[RewardWeights, dict[str, Term]]:
    weights = parse(RewardWeights, text, "grpo.reward")
    return weights, business_terms(weights)

"""Whether prompts and answers fit into the model, told before any training."""

from collections.abc import Sequence
from typing import Any

from components.grpo.config import GrpoConfig
from components.shared.language_model.checks import check_length
from components.shared.language_model.load import encode_prompt
from components.shared.prompting.table import PromptRow


def longest_prompt(config: GrpoConfig, tokenizer: Any, context: int | None, rows: Sequence[PromptRow]) -> int:
    """Return the tokens of the longest prompt of `rows`.

    Raises:
        ConfigError: with its answer it does not fit into the model's `context` (tokens; None: not known).
    """
    longest = max(len(encode_prompt(tokenizer, row.messages)) for row in rows)
    if context is not None:
        check_fits(config, longest, "the model's context", context)
    return longest


def check_fits(config: GrpoConfig, longest: int, name: str, limit: int) -> None:
    """Raise ConfigError if a prompt of `longest` tokens and its answer exceed the `limit` of `name`."""
    remedy = "lower prompts.max_prompt_tokens or grpo.max_new_tokens"
    check_length(longest + config.max_new_tokens, limit, remedy, name)

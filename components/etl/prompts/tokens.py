"""Counting the tokens of chat messages as the model itself will read them."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.shared.errors import ModelError


@functools.cache  # one load per Python worker
def token_counter(folder: str) -> Callable[[list[dict[str, str]]], int]:
    """Return a function giving the number of prompt tokens of chat messages, generation prompt included."""
    import transformers

    try:
        # AutoTokenizer imports torch, which costs every Python worker several seconds.
        is_fast = (Path(folder) / "tokenizer.json").is_file()
        kind = transformers.PreTrainedTokenizerFast if is_fast else transformers.AutoTokenizer
        tokenizer: Any = kind.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{folder}: no readable tokenizer ({error}); is the model folder complete?"
        ) from error
    if not tokenizer.chat_template:
        raise ModelError(f"{folder}: the tokenizer has no chat template; use an instruction-tuned model")

    def count(messages: list[dict[str, str]]) -> int:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return count

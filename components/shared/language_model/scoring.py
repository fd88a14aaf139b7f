"""Rankings without generating: how likely each candidate's number is as the beginning of the answer.

One forward pass per prompt reads the prompt once and all candidates' numbers after it, in one packed row. The
ranking is always whole and valid. No reasoning goes before: the model answers at once.
"""

from collections.abc import Callable, Sequence
from itertools import takewhile

import torch

from components.shared.language_model.load import LanguageModel, Message, encode_prefill, encode_prompt
from components.shared.language_model.packing import token_log_probs

WITHOUT_REASONING = "<think></think><answer>"
"""How an answer begins that does not think."""

PROGRESS_EVERY = 25


@torch.inference_mode()
def score_candidates(
    lm: LanguageModel,
    prompts: Sequence[Sequence[Message]],
    num_candidates: Sequence[int],
    progress: Callable[[int], None] | None = None,
) -> list[list[float]]:
    """Return for each prompt the log-likelihood of every candidate's number, [prompt][candidate].

    `num_candidates` are the prompts' list lengths. `progress` is called with the number of prompts done
    from time to time.
    """
    scores = []
    for done, (prompt, count) in enumerate(zip(prompts, num_candidates, strict=True), start=1):
        beginning, numbers = _split([encode_prefill(lm.tokenizer, first_number(n + 1)) for n in range(count)])
        log_probs, _ = token_log_probs(lm.model, encode_prompt(lm.tokenizer, prompt) + beginning, numbers)
        scores.append(log_probs.sum(1).tolist())
        if progress and (done % PROGRESS_EVERY == 0 or done == len(prompts)):
            progress(done)
    return scores


def first_number(number: int) -> str:
    """Return the beginning of an answer that ranks `number` first."""
    # The comma tells 1 from the beginning of 10.
    return f"{WITHOUT_REASONING}{number},"


def ranking(scores: Sequence[float]) -> list[int]:
    """Return the candidates' numbers, the most likely first, the earlier of equals first."""
    return sorted(range(1, len(scores) + 1), key=lambda number: -scores[number - 1])


def _split(rows: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Return the longest common beginning of token rows, and the rows' ends."""
    columns = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False))
    # A single candidate has all in common; its last token is left to be scored.
    common = min(sum(1 for _ in columns), min(len(row) for row in rows) - 1)
    return list(rows[0][:common]), [list(row[common:]) for row in rows]

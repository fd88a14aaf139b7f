"""Rankings without generating: a score for each candidate from one packed row per prompt.

- `label_logits`: how likely the candidate's number is as the beginning of the answer to the chat prompt.
- `title_likelihood`: how much likelier the titles of the history make the candidate's title as their next
  line (pointwise mutual information); what a title is worth without a history is subtracted, so that a
  common one has no advantage.

Candidates do not see one another. The ranking is always whole and valid; no reasoning goes before it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

from components.shared.config import Answers
from components.shared.language_model.load import LanguageModel, encode_prefill, encode_prompt
from components.shared.language_model.packing import sequence_log_probs
from components.shared.prompting.table import Asked

WITHOUT_REASONING = "<think></think><answer>"
"""How an answer begins that does not think."""

HEADER = "Titles that one user chose, one after the other:\n"
LATEST = 8
"""Titles of the history that a candidate's title follows."""

PROGRESS_EVERY = 25

Tokens = list[int]


@dataclass(frozen=True)
class Question:
    """The candidates' `answers` after `prompt`; `alone` is the prompt without a user, or empty."""

    prompt: Tokens
    answers: list[Tokens]
    alone: Tokens

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.answers))


def question(tokenizer: Any, answers: Answers, asked: Asked) -> Question:
    """Return the tokens that score the candidates of `asked`."""
    if answers == "label_logits":
        numbers = [encode_prefill(tokenizer, first_number(n + 1)) for n in range(len(asked.titles))]
        beginning, ends = _split(numbers)
        return Question(encode_prompt(tokenizer, asked.messages) + beginning, ends, [])

    def encode(text: str) -> Tokens:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    lines = "".join(f"{title}\n" for title in asked.history[-LATEST:])
    return Question(encode(HEADER + lines), [encode(f"{title}\n") for title in asked.titles], encode(HEADER))


def model_scores(model: Any, asked: Question) -> torch.Tensor:
    """Return the candidates' scores in nats, (candidates,), with gradients."""
    given = sequence_log_probs(model, asked.prompt, asked.answers)
    return given - sequence_log_probs(model, asked.alone, asked.answers) if asked.alone else given


@torch.inference_mode()
def score_all(
    lm: LanguageModel, questions: Sequence[Question], progress: Callable[[int], None] | None = None
) -> list[list[float]]:
    """Return `model_scores` of each question; what an answer is worth alone is computed once.

    `progress` is called with the number of questions done from time to time.
    """
    alone: dict[tuple[int, ...], float] = {}
    scores = []
    for done, asked in enumerate(questions, start=1):
        values = sequence_log_probs(lm.model, asked.prompt, asked.answers).tolist()
        if asked.alone:
            if new := [answer for answer in asked.answers if tuple(answer) not in alone]:
                found = sequence_log_probs(lm.model, asked.alone, new).tolist()
                alone |= zip(map(tuple, new), found, strict=True)
            values = [
                value - alone[tuple(answer)] for value, answer in zip(values, asked.answers, strict=True)
            ]
        scores.append(values)
        if progress and (done % PROGRESS_EVERY == 0 or done == len(questions)):
            progress(done)
    return scores


def first_number(number: int) -> str:
    """Return the beginning of an answer that ranks `number` first."""
    # The comma tells 1 from the beginning of 10.
    return f"{WITHOUT_REASONING}{number},"


def ranking(scores: Sequence[float]) -> list[int]:
    """Return the candidates' numbers, the most likely first, the earlier of equals first."""
    return sorted(range(1, len(scores) + 1), key=lambda number: -scores[number - 1])


def answer_of(numbers: Sequence[int]) -> str:
    """Return the answer without reasoning that names `numbers`, best first."""
    return f"{WITHOUT_REASONING}{', '.join(map(str, numbers))}</answer>"


def _split(rows: Sequence[Tokens]) -> tuple[Tokens, list[Tokens]]:
    """Return the longest common beginning of token rows, and the rows' ends."""
    columns = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False))
    # A single candidate has all in common; its last token is left to be scored.
    common = min(sum(1 for _ in columns), min(len(row) for row in rows) - 1)
    return list(rows[0][:common]), [list(row[common:]) for row in rows]

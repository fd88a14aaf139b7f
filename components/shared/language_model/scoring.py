"""Rankings without generating: a score for each candidate, packed rows of several prompts at once.

- `label_logits`: how likely the candidate's number is as the beginning of the answer to the chat prompt.
- `title_likelihood`: how much likelier the titles of the history make the candidate's title as their next
  line (pointwise mutual information); what a title is worth without a history is subtracted, so that a
  common one has no advantage.

Candidates do not see one another. The ranking is always whole and valid; no reasoning goes before it.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

from components.shared.config import Answers
from components.shared.language_model.checks import check_length
from components.shared.language_model.load import (
    LanguageModel,
    context_length,
    encode_prefill,
    encode_prompt,
)
from components.shared.language_model.packing import pack, sequence_log_probs
from components.shared.prompting.table import Asked

WITHOUT_REASONING = "<think></think><answer>"
"""How an answer begins that does not think."""

HEADER = "Titles that one user chose, one after the other:\n"
LATEST = 8
"""Titles of the history that a candidate's title follows."""

ALONE = 32
"""Answers of a row without a user: longer rows share more beginnings, and cost more attention."""

CPU_TOKENS, GPU_TOKENS = 2048, 8192
"""Tokens of a forward pass, padding included, of prompts of similar length; one at least is read."""

Tokens = list[int]
Worth = dict[tuple[int, ...], float]
"""Log-probabilities of answers after the prompt without a user."""


@dataclass(frozen=True)
class Question:
    """The candidates' `answers` after `prompt`; `alone` is the prompt without a user, or empty."""

    prompt: Tokens
    answers: list[Tokens]
    alone: Tokens

    def __len__(self) -> int:
        """Return the tokens of its packed row."""
        return len(pack(self.prompt, self.answers))


def check_context(lm: LanguageModel, questions: Sequence[Question]) -> None:
    """Raise ConfigError if a prompt with its longest answer exceeds the model's context."""
    # Each answer is read as if it alone followed the prompt, so the longest one counts, not their sum.
    longest = max(len(asked.prompt) + max(map(len, asked.answers)) for asked in questions)
    remedy = "lower prompts.max_prompt_tokens or prompts.title_chars"
    check_length(longest, context_length(lm.model.config), remedy)


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


def model_scores(model: Any, questions: Sequence[Question]) -> list[torch.Tensor]:
    """Return each question's scores in nats, (candidates,), with gradients, from one pass for all.

    What the answers are worth alone takes a second one.
    """
    given, alone = _log_probs(model, questions), _alone(questions, {})
    if not alone:
        return given
    worth = torch.cat(_log_probs(model, alone))
    number = {tuple(answer): n for n, answer in enumerate(answer for one in alone for answer in one.answers)}
    return [
        values - worth[torch.tensor([number[tuple(answer)] for answer in asked.answers], device=worth.device)]
        for values, asked in zip(given, questions, strict=True)
    ]


def score_all(
    lm: LanguageModel,
    questions: Sequence[Question],
    progress: Callable[[int], None] | None = None,
    worth: Worth | None = None,
) -> list[list[float]]:
    """Return `model_scores` of each question, computed in batches of similar length.

    `progress` is called with the number of questions done, some twenty times. What answers are worth alone is
    not computed again where `worth` has it, and is added to it.
    """
    return score_each([lm.model], questions, progress, None if worth is None else [worth])[0][0]


@torch.inference_mode()
def score_each(
    models: Sequence[Any],
    questions: Sequence[Question],
    progress: Callable[[int], None] | None = None,
    worths: Sequence[Worth] | None = None,
) -> tuple[list[list[list[float]]], float]:
    """Return what `score_all` returns for each model, and the seconds of the first.

    Every batch is read by all `models`, one after the other. `worths` of the models know the same answers.
    """
    worths = worths or [{} for _ in models]
    alone = _alone(questions, worths[0])
    rows = [*questions, *alone]
    found: list[dict[int, list[float]]] = [{} for _ in models]
    seconds, done, told = 0.0, 0, 0
    for batch in batches(rows, models[0].device):
        for model, values in zip(models, found, strict=True):
            started = time.perf_counter()
            parts = _log_probs(model, [rows[n] for n in batch])
            values |= zip(batch, (part.tolist() for part in parts), strict=True)
            seconds += time.perf_counter() - started if model is models[0] else 0.0
        done += len(batch)
        if progress and (done - told >= len(rows) / 20 or done == len(rows)):
            progress(len(questions) * done // len(rows))
            told = done
    for values, worth in zip(found, worths, strict=True):
        for number, row in enumerate(alone, len(questions)):
            worth |= zip(map(tuple, row.answers), values[number], strict=True)
    return [
        [_less(values[n], asked, worth) for n, asked in enumerate(questions)]
        for values, worth in zip(found, worths, strict=True)
    ], seconds


def _less(values: list[float], asked: Question, worth: Worth) -> list[float]:
    """Return the question's values less what its answers are worth alone."""
    if not asked.alone:
        return values
    return [value - worth[tuple(answer)] for value, answer in zip(values, asked.answers, strict=True)]


def batches(questions: Sequence[Question], device: torch.device) -> Iterator[list[int]]:
    """Yield the numbers of questions that share a forward pass, the longest first."""
    tokens = GPU_TOKENS if device.type == "cuda" else CPU_TOKENS
    order = sorted(range(len(questions)), key=lambda n: -len(questions[n]))
    while order:
        size = max(1, tokens // len(questions[order[0]]))
        yield order[:size]
        order = order[size:]


def _log_probs(model: Any, questions: Sequence[Question]) -> list[torch.Tensor]:
    return sequence_log_probs(model, [(asked.prompt, asked.answers) for asked in questions])


def _alone(questions: Sequence[Question], known: Collection[tuple[int, ...]]) -> list[Question]:
    """Return questions that ask for each distinct answer once, after the prompt without a user."""
    # Titles that begin alike share a packed row.
    answers = {tuple(answer) for asked in questions if asked.alone for answer in asked.answers}
    new = sorted(answer for answer in answers if answer not in known)
    rows = (new[start : start + ALONE] for start in range(0, len(new), ALONE))
    return [Question(questions[0].alone, list(map(list, row)), []) for row in rows]


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

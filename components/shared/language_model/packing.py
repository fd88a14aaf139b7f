"""Log-probabilities of a prompt's answers from one packed row: the prompt once, then a tree of the answers.

A beginning that several answers have in common stands in the row once; their last tokens, after which nothing
is predicted, are left out. A token sees the prompt and what goes before it in its answer, and its position
continues from the prompt's. That is the same computation as one row per answer at a fraction of the tokens.
Rows of several prompts make a batch, padded on the left, so that all end in its last column.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

from components.shared.language_model.generate import pad_left

PACKED = "packed_log_probs"
"""Key of a model's config.json that is false where packed rows give other log-probabilities."""

Row = tuple[Sequence[int], Sequence[Sequence[int]]]
"""A prompt and its answers, none of them empty."""


@dataclass(frozen=True)
class Packed:
    """A packed row: its tokens, their positions, and what sees or predicts them.

    Token n is seen by itself and by its continuations, which are those before `ends[n]`. `predictors` has,
    per answer in the order given, the index of the token that predicts each of the answer's tokens.
    """

    tokens: list[int]
    positions: list[int]
    ends: list[int]
    predictors: list[list[int]]

    def __len__(self) -> int:
        return len(self.tokens)


def pack(prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> Packed:
    """Return the packed row of a prompt and its answers, none of them empty."""
    tokens, ends = list(prompt), [0] * len(prompt)
    positions = list(range(len(prompt)))
    predictors: list[list[int]] = [[] for _ in answers]
    path: list[int] = []  # the tokens of the previous answer, by their index
    # Sorted, answers with the same beginning follow one another.
    for number in sorted(range(len(answers)), key=lambda n: list(answers[n][:-1])):
        *answer, _ = answers[number]
        same = takewhile(lambda pair: tokens[pair[0]] == pair[1], zip(path, answer, strict=False))
        path = path[: sum(1 for _ in same)]
        for token in answer[len(path) :]:
            path.append(len(tokens))
            positions.append(len(prompt) + len(path) - 1)
            tokens.append(token)
            ends.append(0)
        for index in path:
            ends[index] = len(tokens)
        predictors[number] = [len(prompt) - 1, *path]
    ends[: len(prompt)] = [len(tokens)] * len(prompt)
    return Packed(tokens, positions, ends, predictors)


def packed_inputs(rows: Sequence[Packed], device: torch.device) -> dict[str, torch.Tensor]:
    """Return input_ids, position_ids (rows, S) and boolean attention_mask (rows, 1, S, S)."""
    ids = pad_left([row.tokens for row in rows], 0)[0].to(device)
    columns = torch.arange(ids.shape[1], device=device)
    padding = torch.tensor([ids.shape[1] - len(row) for row in rows], device=device)[:, None]
    # Padding sees itself: a token that sees nothing has no gradient but NaN.
    ends = pad_left([row.ends for row in rows], 0)[0].to(device) + padding
    ends = torch.where(columns < padding, columns + 1, ends)
    visible = (columns <= columns[:, None]) & (columns[:, None] < ends[:, None, :])
    return {
        "input_ids": ids,
        "position_ids": pad_left([row.positions for row in rows], 0)[0].to(device),
        "attention_mask": visible[:, None],
    }


def token_log_probs(
    model: Any, prompt: Sequence[int], answers: Sequence[Sequence[int]], temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities and entropies of the answers' tokens, both (G, longest), padded with 0.

    Answers must not be empty. Logits are computed at the answers' positions alone. The entropy is detached.
    A model that does not fit packed rows (see `fits`) reads the prompt once per answer.
    """
    logits, normaliser, log_probs = _predict(model, prompt, answers, temperature)
    with torch.no_grad():
        entropy = normaliser - (logits.softmax(-1) * logits).sum(-1)
    lengths = [len(answer) for answer in answers]
    return _ragged(log_probs, lengths), _ragged(entropy, lengths)


def sequence_log_probs(model: Any, rows: Sequence[Row]) -> list[torch.Tensor]:
    """Return the log-probabilities of each row's answers, (answers,), from one forward pass.

    A model that does not fit packed rows (see `fits`) takes a pass per prompt.
    """
    if not rows:
        return []
    if all(fits(model, len(prompt) + max(map(len, answers))) for prompt, answers in rows):
        tokens = _batch_log_probs(model, rows)
    else:
        tokens = [_predict(model, *row, 1.0)[2] for row in rows]
    lengths = torch.tensor([len(answer) for _, answers in rows for answer in answers], device=model.device)
    sums = torch.segment_reduce(torch.cat(tokens), "sum", lengths=lengths)
    return list(sums.split([len(answers) for _, answers in rows]))


def _batch_log_probs(model: Any, rows: Sequence[Row]) -> list[torch.Tensor]:
    """Return the log-probabilities of each row's answer tokens, (tokens,)."""
    packed = [pack(*row) for row in rows]
    kept = 1 + max(len(row) - len(prompt) for row, (prompt, _) in zip(packed, rows, strict=True))
    inputs = packed_inputs(packed, model.device)
    logits = model(**inputs, use_cache=False, logits_to_keep=kept).logits
    found = []
    # Row by row: a copy in float32 of all (tokens, vocabulary) takes gigabytes.
    for row, (_, answers), of_row in zip(packed, rows, logits.unbind(), strict=True):
        columns = torch.tensor([index + kept - len(row) for indices in row.predictors for index in indices])
        targets = torch.tensor([token for answer in answers for token in answer])
        log_probs = _exact(of_row).log_softmax(-1)
        found.append(log_probs[columns.to(of_row.device), targets.to(of_row.device)])
    return found


def _exact(logits: torch.Tensor) -> torch.Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _predict(
    model: Any, prompt: Sequence[int], answers: Sequence[Sequence[int]], temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits (tokens, vocabulary), their logsumexp, and the tokens' log-probabilities."""
    longest = max(len(answer) for answer in answers)
    compute = packed_logits if fits(model, len(prompt) + longest) else plain_logits
    logits = compute(model, prompt, answers)
    logits = _exact(logits) / temperature
    targets = torch.tensor([token for answer in answers for token in answer], device=logits.device)
    normaliser = logits.logsumexp(-1)
    return logits, normaliser, logits.gather(1, targets[:, None]).squeeze(1) - normaliser


def fits(model: Any, tokens: int) -> bool:
    """Return whether prompts with an answer, of `tokens` together, can be packed for `model`.

    `base_model` tries it, and writes PACKED into the configuration of a model for which it is wrong. A mask
    of our own replaces that of a sliding window, which may therefore not end within the tokens.
    """
    text = model.config.get_text_config()  # of a model that reads images as well
    windows = [getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return getattr(model.config, PACKED, True) and all(tokens <= window for window in windows if window)


def packed_logits(model: Any, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the logits that predict the answers' tokens, (tokens, vocabulary), from one packed row."""
    row = pack(prompt, answers)
    keep = torch.tensor([index for indices in row.predictors for index in indices], device=model.device)
    return model(**packed_inputs([row], model.device), use_cache=False, logits_to_keep=keep).logits[0]


def plain_logits(model: Any, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return what `packed_logits` returns, from one row for each answer."""
    padded = pad_left([[*prompt, *answer] for answer in answers], 0)
    ids, mask, positions = (tensor.to(model.device) for tensor in padded)
    longest = max(len(answer) for answer in answers)
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        use_cache=False,
        logits_to_keep=longest + 1,
    ).logits
    rows = [row[longest - len(answer) : -1] for row, answer in zip(logits, answers, strict=True)]
    return torch.cat(rows)


def answer_mask(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    """Return the float mask (G, longest) with 1 on each answer's tokens."""
    columns = torch.arange(max(lengths), device=device)
    return (columns[None, :] < torch.tensor(lengths, device=device)[:, None]).float()


def _ragged(values: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(values.split(list(lengths))), batch_first=True)

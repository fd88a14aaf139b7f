"""Log-probabilities of a prompt's answers from one packed row: the prompt once, then every answer.

The row is `prompt + answer_1 + … + answer_G`; each answer sees the prompt and itself, and its positions
continue from the prompt's. That is the same computation as G padded rows at a fraction of the tokens.
Rows of several prompts make a batch, padded on the left, so that all answers end in its last column.
"""

from collections.abc import Sequence
from typing import Any

import torch

from components.shared.language_model.generate import pad_left

PACKED = "packed_log_probs"
"""Key of a model's config.json that is false where packed rows give other log-probabilities."""


Row = tuple[Sequence[int], Sequence[Sequence[int]]]
"""A prompt and its answers, none of them empty."""

_PADDING = -1
"""Segment of the padding, which sees itself: a token that sees nothing has no gradient but NaN."""


def packed_inputs(rows: Sequence[Row], device: torch.device) -> dict[str, torch.Tensor]:
    """Return input_ids, position_ids (rows, S) and boolean attention_mask (rows, 1, S, S)."""
    ids, segments, positions = [], [], []
    for prompt, answers in rows:
        ids.append([*prompt, *(token for answer in answers for token in answer)])
        segments.append([0] * len(prompt) + [i for i, answer in enumerate(answers, 1) for _ in answer])
        columns = (len(prompt) + t for answer in answers for t in range(len(answer)))
        positions.append([*range(len(prompt)), *columns])
    segment = pad_left(segments, _PADDING)[0].to(device)
    seen, by = segment[:, None, :], segment[:, :, None]
    causal = torch.ones(segment.shape[1], segment.shape[1], dtype=torch.bool, device=device).tril()
    return {
        "input_ids": pad_left(ids, 0)[0].to(device),
        "position_ids": pad_left(positions, 0)[0].to(device),
        "attention_mask": (causal & ((seen == 0) | (seen == by)))[:, None],
    }


def predecessors(prompt_length: int, lengths: Sequence[int]) -> torch.Tensor:
    """Return, per answer token in row order, the index of the token that predicts it."""
    indices, start = [], prompt_length
    for length in lengths:
        indices += [prompt_length - 1, *range(start, start + length - 1)]
        start += length
    return torch.tensor(indices)


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
    kept = 1 + max(sum(map(len, answers)) for _, answers in rows)
    inputs = packed_inputs(rows, model.device)
    logits = model(**inputs, use_cache=False, logits_to_keep=kept).logits
    found = []
    # Row by row: a copy in float32 of all (tokens, vocabulary) takes gigabytes.
    for (prompt, answers), row in zip(rows, logits.unbind(), strict=True):
        lengths = list(map(len, answers))
        columns = predecessors(len(prompt), lengths) + kept - len(prompt) - sum(lengths)
        targets = torch.tensor([token for answer in answers for token in answer])
        log_probs = _exact(row).log_softmax(-1)
        found.append(log_probs[columns.to(row.device), targets.to(row.device)])
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
    inputs = packed_inputs([(prompt, answers)], model.device)
    keep = predecessors(len(prompt), [len(answer) for answer in answers]).to(model.device)
    return model(**inputs, use_cache=False, logits_to_keep=keep).logits[0]


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

"""Log-probabilities of a group's answers from one packed row: the prompt once, then every answer.

The row is `prompt + answer_1 + … + answer_G`; each answer sees the prompt and itself, and its positions
continue from the prompt's. That is the same computation as G padded rows at a fraction of the tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch

from components.shared.language_model.generate import pad_left

PACKED = "packed_log_probs"
"""Key of a model's config.json that is false where packed rows give other log-probabilities."""


def packed_inputs(prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Return the row's input_ids, position_ids (1, S) and boolean attention_mask (1, 1, S, S)."""
    ids = [*prompt, *(token for answer in answers for token in answer)]
    segments = [0] * len(prompt) + [i for i, answer in enumerate(answers, 1) for _ in answer]
    positions = [*range(len(prompt)), *(len(prompt) + t for answer in answers for t in range(len(answer)))]
    segment = torch.tensor(segments)
    causal = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    visible = causal & ((segment[None, :] == 0) | (segment[None, :] == segment[:, None]))
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "attention_mask": visible[None, None],
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


def sequence_log_probs(model: Any, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the log-probability of each of the answers, (G,), by the rows of `token_log_probs`."""
    _, _, log_probs = _predict(model, prompt, answers, 1.0)
    return torch.stack([part.sum() for part in log_probs.split([len(answer) for answer in answers])])


def _predict(
    model: Any, prompt: Sequence[int], answers: Sequence[Sequence[int]], temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits (tokens, vocabulary), their logsumexp, and the tokens' log-probabilities."""
    longest = max(len(answer) for answer in answers)
    compute = packed_logits if fits(model, len(prompt) + longest) else plain_logits
    logits = compute(model, prompt, answers)
    logits = (logits if logits.dtype == torch.float64 else logits.float()) / temperature
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
    inputs = {name: value.to(model.device) for name, value in packed_inputs(prompt, answers).items()}
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

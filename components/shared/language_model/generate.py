"""Batched sampling that reads each prompt once, however many samples are drawn from it.

Simplified from a serving engine: one device, prompts padded on the left to the longest of their batch,
finished rows dropped from the batch as soon as enough of them have ended.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from components.shared.errors import TrainingError
from components.shared.language_model.grammar import ConstrainedAnswer, Shape, restrict
from components.shared.language_model.load import (
    LanguageModel,
    Message,
    answer_prefix,
    encode_prefill,
    encode_prompt,
)

PREFILL_TOKENS = 4096


@dataclass(frozen=True)
class Completion:
    """One answer; `token_ids` include the end token if `finished`, `text` has no special tokens."""

    text: str
    token_ids: list[int]
    finished: bool
    """Whether it ended by itself, not for want of tokens."""
    corrected: bool = False
    """Whether a constraint put another token in the place of the model's own."""


def complete(
    lm: LanguageModel,
    prompts: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    num_samples: int = 1,
    temperature: float = 0.0,
    batch_size: int = 16,
    seed: int = 0,
    prefills: Sequence[str] | None = None,
    shapes: Sequence[Shape] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[list[Completion]]:
    """Return `num_samples` completions of each of the chat `prompts`.

    `temperature` 0 decodes greedily. `batch_size` counts prompts; prompts of similar length share a batch.
    `prefills`, one text per prompt, are how its answers begin: only what follows is generated. With `shapes`,
    one per prompt, answers are constrained to them. `progress` is called with the number of prompts done.
    """
    if prefills is None:
        prefills = [answer_prefix(lm.tokenizer)] * len(prompts)
    encoded = [
        encode_prompt(lm.tokenizer, prompt) + encode_prefill(lm.tokenizer, prefill)
        for prompt, prefill in zip(prompts, prefills, strict=True)
    ]
    order = sorted(range(len(encoded)), key=lambda i: (len(encoded[i]), i))
    generator = torch.Generator(device=lm.device).manual_seed(seed)
    completions: list[list[Completion]] = [[] for _ in encoded]
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        answers = (
            [
                ConstrainedAnswer(lm.grammar, shapes[i], max_new_tokens, prefills[i])
                for i in batch
                for _ in range(num_samples)
            ]
            if shapes
            else []
        )
        sampled = sample(
            lm,
            [encoded[i] for i in batch],
            num_samples=num_samples,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            generator=generator,
            answers=answers,
        )
        states = iter(answers)
        for i, samples in zip(batch, sampled, strict=True):
            completions[i] = [
                completion(lm.tokenizer, lm.stop_ids, prefills[i], ids, next(states, None)) for ids in samples
            ]
        if progress:
            progress(start + len(batch))
    return completions


def completion(
    tokenizer: Any, stop_ids: Collection[int], prefill: str, ids: list[int], answer: ConstrainedAnswer | None
) -> Completion:
    """Return what was generated after `prefill`, constrained by `answer` if there is one."""
    return Completion(
        text=prefill + tokenizer.decode(ids, skip_special_tokens=True),
        token_ids=ids,
        finished=bool(ids) and ids[-1] in stop_ids and not (answer and answer.was_closed),
        corrected=bool(answer and answer.was_corrected),
    )


@torch.inference_mode()
def sample(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    num_samples: int,
    max_new_tokens: int,
    temperature: float,
    generator: torch.Generator,
    answers: Sequence[ConstrainedAnswer] = (),
) -> list[list[list[int]]]:
    """Return sampled token ids for a batch of encoded prompts, [prompt][sample][token], with end tokens.

    `answers`, one per sample or none, constrain them.
    """
    padded = pad_left(prompts, lm.tokenizer.pad_token_id)
    input_ids, mask, positions = (tensor.to(lm.device) for tensor in padded)
    logits, cache = _prefill(lm, input_ids, mask, positions)
    rows = len(prompts) * num_samples
    if num_samples > 1:
        cache.batch_repeat_interleave(num_samples)
        logits, mask, positions = (t.repeat_interleave(num_samples, 0) for t in (logits, mask, positions))
    position = positions[:, -1:]
    token_ids: list[list[int]] = [[] for _ in range(rows)]
    sample_of_row = list(range(rows))
    running = torch.ones(rows, dtype=torch.bool, device=lm.device)
    stop = torch.tensor(sorted(lm.stop_ids), device=lm.device)
    for step in range(max_new_tokens):
        going_on = {row: sample_of_row[row] for row in running.nonzero().flatten().tolist()}
        if answers:
            restrict(logits, {row: answers[i] for row, i in going_on.items()})
        tokens = _next_tokens(logits, temperature, generator)
        for i, token in zip(going_on.values(), tokens[running].tolist(), strict=True):
            token_ids[i].append(token)
            if answers:
                answers[i].take(token)
        running &= ~torch.isin(tokens, stop)
        if step == max_new_tokens - 1 or not running.any():
            break
        # Dropping rows copies the cache, which pays in bulk.
        if int(running.sum()) <= 0.75 * len(sample_of_row):
            keep = running.nonzero().squeeze(1)
            cache.batch_select_indices(keep)
            sample_of_row = [sample_of_row[row] for row in keep.tolist()]
            tokens, mask, position, running = tokens[keep], mask[keep], position[keep], running[keep]
        position = position + 1
        mask = torch.cat([mask, mask.new_ones(len(sample_of_row), 1)], 1)
        logits = lm.model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
    return [token_ids[i : i + num_samples] for i in range(0, rows, num_samples)]


def _prefill(
    lm: LanguageModel, input_ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor
) -> tuple[torch.Tensor, DynamicCache]:
    """Return the logits after each prompt, (prompts, vocabulary), and the cache of all prompts."""
    # In passes of at most PREFILL_TOKENS tokens: what a pass computes then stays in the processor's caches,
    # and memory does not grow with the batch.
    rows = max(1, PREFILL_TOKENS // input_ids.shape[1])
    logits, caches = [], []
    for start in range(0, len(input_ids), rows):
        part = slice(start, start + rows)
        cache = DynamicCache(config=lm.model.config)
        output = lm.model(
            input_ids=input_ids[part],
            attention_mask=mask[part],
            position_ids=positions[part],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits.append(output.logits[:, -1])
        caches.append(cache)
    for layer, *others in zip(*(cache.layers for cache in caches), strict=True):
        layer.keys = torch.cat([layer.keys, *(other.keys for other in others)])
        layer.values = torch.cat([layer.values, *(other.values for other in others)])
    return torch.cat(logits), caches[0]


def pad_left(rows: Sequence[Sequence[int]], value: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return token ids padded with `value`, attention mask and position ids, each (rows, longest)."""
    pad = partial(pad_sequence, batch_first=True, padding_side="left")
    ids = [torch.tensor(row, dtype=torch.long) for row in rows]
    mask = pad([torch.ones_like(row) for row in ids])
    return pad(ids, padding_value=value), mask, (mask.cumsum(1) - 1).clamp(min=0)


def _next_tokens(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
    if logits.isnan().any():
        raise TrainingError(
            "the model's outputs are not numbers: its weights are broken, or training has diverged; "
            "lower the learning rate"
        )
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.float() / temperature, -1)
    if probabilities.isnan().any():
        raise TrainingError(
            f"sampling: outputs divided by the temperature {temperature:g} overflow; raise it, or lower "
            "the learning rate if training has diverged"
        )
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(1)

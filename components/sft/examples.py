"""Prompts and answers as token ids, and batches of them with the loss on the answer alone."""

from collections.abc import Sequence
from typing import Any

import torch

from components.shared.errors import DataError
from components.shared.language_model.generate import pad_left
from components.shared.language_model.load import encode_completion, encode_prompt
from components.shared.prompting.table import PromptRow

IGNORED = -100  # the label that torch's cross-entropy leaves out


def encode(rows: Sequence[PromptRow], tokenizer: Any, max_length: int) -> list[dict[str, list[int]]]:
    """Return `input_ids` and `labels` per row with an answer; prompt tokens are not learnt.

    Raises: DataError if no row has an answer, or an example is longer than `max_length` tokens.
    """
    examples = []
    for row in rows:
        if row.completion is None:
            continue
        prompt = encode_prompt(tokenizer, row.messages)
        answer = encode_completion(tokenizer, row.completion)
        check_example(row, prompt, answer, max_length)
        examples.append({"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer})
    if not examples:
        raise DataError(
            "no training prompt has an answer: the retriever found no label; raise "
            "retrieve.num_candidates or the number of training prompts"
        )
    return examples


def check_example(row: PromptRow, prompt: Sequence[int], answer: Sequence[int], max_length: int) -> None:
    """Raise DataError if prompt and answer have more than `max_length` tokens."""
    if len(prompt) + len(answer) > max_length:
        raise DataError(
            f"the training prompt of user {row.user_id!r} has {len(prompt)} + {len(answer)} tokens, more "
            f"than sft.max_length={max_length}; raise it or lower prompts.max_prompt_tokens"
        )


def collate(examples: Sequence[dict[str, list[int]]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Return input_ids, attention_mask, position_ids, labels: each (batch, longest), padded on the left."""
    ids, mask, positions = pad_left([example["input_ids"] for example in examples], pad_token_id)
    labels, _, _ = pad_left([example["labels"] for example in examples], IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "labels": labels}


def share(examples: Sequence[dict[str, list[int]]], rank: int, size: int) -> list[dict[str, list[int]]]:
    """Return the examples of process `rank` of `size`, at least one.

    Every process takes part in every forward and backward pass. One for which none is left gets an example
    without labels, which adds nothing.
    """
    return list(examples[rank::size]) or [{**examples[0], "labels": [IGNORED] * len(examples[0]["labels"])}]


def answer_loss(model: Any, batch: dict[str, torch.Tensor], num_items: int | None = None) -> torch.Tensor:
    """Return the cross-entropy of the answers' tokens, computing logits for those columns alone.

    The sum over tokens is divided by `num_items` (all answer tokens of an optimiser step spread over
    several batches), or by the batch's own number of answer tokens.
    """
    labels = batch["labels"]
    answers = (labels != IGNORED).any(0).nonzero()
    columns = labels.shape[1] - int(answers[0]) if len(answers) else 1
    logits = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        position_ids=batch["position_ids"],
        use_cache=False,
        logits_to_keep=columns + 1,
    ).logits
    targets = labels[:, -columns:].reshape(-1)
    total = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().reshape(-1, logits.shape[-1]), targets, ignore_index=IGNORED, reduction="sum"
    )
    return total / (num_items if num_items is not None else (targets != IGNORED).sum())

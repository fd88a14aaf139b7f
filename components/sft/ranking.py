"""Training a model to score candidates: a softmax over them, on top of the retriever's scores.

The candidates' logits are weighted sums of the model's and the retriever's scores (`Ranker`), so that the
model learns what the retriever lacks. The weights are fitted before the training, on train prompts, and
again after it, on validation prompts; the second ones stay with the model.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from components.sft.config import SftConfig
from components.sft.examples import IGNORED, check_example
from components.shared.errors import DataError
from components.shared.language_model.dtype import autocast, torch_dtype
from components.shared.language_model.load import LanguageModel
from components.shared.language_model.ranker import Ranker, target_shares
from components.shared.language_model.scoring import model_scores, question, ranking, score_all
from components.shared.logs import logger, progress
from components.shared.metrics import judge, mean, numbered
from components.shared.prompting.table import PromptRow, sample_indices

LEAST = 0.3
"""Least standard deviation of the model's part of the logits in training: without any it learns nothing."""

log = logger("sft")

Example = dict[str, Any]


@dataclass(frozen=True)
class Fusion:
    """The ranker, and NDCG@10 on the prompts that its weights were fitted on."""

    ranker: Ranker
    prompts: int
    order: float
    model: float
    both: float

    def __str__(self) -> str:
        return (
            f"{self.ranker.scale:.3g} x model + {self.ranker.fuse:.3g} x retriever; NDCG@10 on "
            f"{self.prompts} prompts: retriever {self.order:.4f}, model {self.model:.4f}, "
            f"both {self.both:.4f}"
        )


def encode(rows: Sequence[PromptRow], tokenizer: Any, config: SftConfig) -> list[Example]:
    """Return question, retriever's scores and target shares per row with a retrieved label or teacher.

    With `config.negatives` they are those of its labels, or of the teacher's best candidate, and of a seeded
    sample of the other candidates.

    Raises: DataError as `examples.encode`.
    """
    examples = []
    rng = random.Random(config.seed)
    for row in rows:
        if row.labels or row.teacher:
            kept = _sampled(row, config.negatives, rng)
            asked = question(tokenizer, config.answers, row)
            asked = replace(asked, answers=[asked.answers[n] for n in kept])
            shares = target_shares(row)
            total = sum(shares[n] for n in kept)
            longest = max(asked.answers, key=len)
            check_example(row, asked.prompt, longest, config.max_length)
            tokens = [*asked.prompt, *(token for answer in asked.answers for token in answer)]
            examples.append(
                # The Trainer batches by the length of `input_ids`, and counts prompts by the second label.
                {
                    "input_ids": tokens,
                    "labels": [IGNORED, 1],
                    "question": asked,
                    "retriever": [row.scores[n] for n in kept],
                    "shares": [shares[n] / total for n in kept],
                }
            )
    if not examples:
        raise DataError(
            "no training prompt has its label among the candidates; raise retrieve.num_candidates or the "
            "number of training prompts"
        )
    return examples


def _sampled(row: PromptRow, negatives: int, rng: random.Random) -> list[int]:
    """Return the indices of the labels or the teacher's best, and a sample of others."""
    # Drawn evenly, so that a softmax over the sample learns the same scores as one over all.
    best = [number - 1 for number in row.labels]
    if row.teacher:
        best = [row.teacher.index(max(row.teacher))]
    others = [n for n in range(len(row.candidates)) if n not in best]
    return sorted(best + rng.sample(others, min(negatives or len(others), len(others))))


def collate(examples: Sequence[Example]) -> dict[str, Any]:
    """Return the examples as they are, and `labels` (batch, 2)."""
    return {"labels": torch.tensor([example["labels"] for example in examples]), "examples": list(examples)}


def ranking_loss(model: Any, batch: dict[str, Any], ranker: Ranker, num_items: Any = None) -> torch.Tensor:
    """Return the cross-entropy of the labels under a softmax over each prompt's candidates.

    The sum over prompts is divided by `num_items` (the prompts of an optimiser step), or by their number.
    """
    losses = []
    examples = batch["examples"]
    scored = model_scores(model, [example["question"] for example in examples])
    for example, scores in zip(examples, scored, strict=True):
        losses.append(-ranker.log_likelihood(scores, example["retriever"], example["shares"]))
    counted = (batch["labels"] != IGNORED).any(1)
    total = sum(loss * used for loss, used in zip(losses, counted, strict=True))
    return total / (num_items if num_items is not None else counted.sum())


def fit(lm: LanguageModel, rows: Sequence[PromptRow], config: SftConfig, least: float = 0.0) -> Fusion:
    """Return the ranker whose weights explain the labels of a seeded sample of `rows` best.

    The model's part of the logits has a standard deviation of at least `least`.
    """
    listed = [row for row in rows if row.labels or row.teacher]
    listed = [listed[i] for i in sample_indices(len(listed), config.fuse_prompts, config.seed)]
    questions = [question(lm.tokenizer, config.answers, row) for row in listed]
    was_training = lm.model.training
    lm.model.eval()
    with autocast(lm.device, torch_dtype(config.dtype)):
        scores = score_all(lm, questions, lambda done: progress(log, done, len(questions), "prompts scored"))
    lm.model.train(was_training)
    retriever, shares = [row.scores for row in listed], [target_shares(row) for row in listed]
    ranker = Ranker(config.answers).fitted(scores, retriever, shares, least)
    both = ranker.all_logits(scores, retriever)
    ndcg = [_ndcg(listed, some) for some in (retriever, scores, both)]
    return Fusion(ranker, len(listed), *ndcg)


def _ndcg(rows: Sequence[PromptRow], scores: Sequence[Sequence[float]]) -> float:
    ranked = [
        [row.candidates[number - 1] for number in ranking(values)]
        for row, values in zip(rows, scores, strict=True)
    ]
    return mean(judge(*numbered(ranked, [row.label_items for row in rows])).ndcg(10).tolist())

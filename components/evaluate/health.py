"""Failure signatures in the answers of trained models, each with its value, bound and remedy."""

from collections.abc import Sequence

from components.evaluate.config import HealthConfig
from data_contracts.evaluation import Alarm, Comparator, Difference, Sample

TRAINED = ("sft", "grpo")
"""Models that must keep the bounds; a base model that has never seen the format may break them."""

_FEW_PROBES = 10  # fewer unchanged answers say nothing
_FEW_USERS = 20  # fewer equal answers say nothing

_REMEDIES = {
    "low_validity": "train SFT longer, or raise the weight of the format reward",
    "truncated_answers": "raise evaluate.max_new_tokens, or shorten the reasoning that SFT teaches",
    "constant_answers": "the model ignores the user: train on more prompts, or shuffle the candidates",
    "copied_order": "the model repeats the retriever's order and adds nothing: train on more prompts, or "
    "raise prompts.shuffle_train_share",
    "superficial_reasoning": "the answer does not follow from the reasoning: raise grpo.reward.reasoning, or "
    "do without it",
    "worse_than_sft": "GRPO made the model worse: lower its learning rate or raise beta, and keep SFT",
}


def alarms(
    config: HealthConfig, comparators: Sequence[Comparator], differences: Sequence[Difference], users: int
) -> list[Alarm]:
    """Return the alarms of the trained models."""
    broken: list[tuple[str, str, float, float]] = []
    for name, answers in ((model.name, model.answers) for model in comparators):
        if name not in TRAINED or answers is None:
            continue
        if answers.valid_share < config.min_valid_share:
            broken.append(("low_validity", name, answers.valid_share, config.min_valid_share))
        ignored = answers.reasoning_ignored_share if answers.reasoning_probes >= _FEW_PROBES else None
        constant, copied = (
            share if users >= _FEW_USERS else 0.0 for share in (answers.constant_share, answers.copied_share)
        )
        checks = [
            ("truncated_answers", answers.truncated_share, config.max_truncated_share),
            ("constant_answers", constant, config.max_constant_share),
            ("copied_order", copied, config.max_copied_share),
            ("superficial_reasoning", ignored or 0.0, config.max_reasoning_ignored_share),
        ]
        broken += [(alarm, name, value, bound) for alarm, value, bound in checks if value > bound]
    for d in differences:
        if (d.model, d.baseline, d.metric) == ("grpo", "sft", "ndcg@10") and d.high < 0:
            broken.append(("worse_than_sft", "grpo", d.mean, 0.0))
    return [
        Alarm(name=name, model=model, value=value, bound=bound, remedy=_REMEDIES[name])
        for name, model, value, bound in broken
    ]


def label_alarms(config: HealthConfig, sample: Sample) -> list[Alarm]:
    """Return the alarms of the labels by which all models are judged."""
    if sample.tied_share <= config.max_tied_share:
        return []
    remedy = (
        "what these users did last is decided by the order of the log's lines, not by time: bring finer "
        "times before a figure is believed"
    )
    return [
        Alarm(
            name="tied_labels",
            model="all models",
            value=sample.tied_share,
            bound=config.max_tied_share,
            remedy=remedy,
        )
    ]

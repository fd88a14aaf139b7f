"""Failure signatures in the answers of trained models, each with its value, bound and remedy."""

from collections.abc import Sequence

from components.evaluate.config import HealthConfig
from data_contracts.evaluation import Alarm, Comparator, Difference

TRAINED = ("sft", "grpo")
"""Models that must keep the bounds; a base model that has never seen the format may break them."""

_FEW_PROBES = 10  # fewer unchanged answers say nothing
_FEW_USERS = 20  # fewer equal answers say nothing


def alarms(
    config: HealthConfig, comparators: Sequence[Comparator], differences: Sequence[Difference], users: int
) -> list[Alarm]:
    """Return the alarms of the trained models."""
    found = [
        alarm
        for model in comparators
        if model.name in TRAINED
        for alarm in _answer_alarms(config, model, users)
    ]
    for d in differences:
        if (d.model, d.baseline, d.metric) == ("grpo", "sft", "ndcg@10") and d.high < 0:
            remedy = "GRPO made the model worse: lower its learning rate or raise beta, and register SFT"
            found.append(Alarm(name="worse_than_sft", model="grpo", value=d.mean, bound=0.0, remedy=remedy))
    return found


def _answer_alarms(config: HealthConfig, model: Comparator, users: int) -> list[Alarm]:
    answers = model.answers
    if answers is None:
        return []
    ignored = answers.reasoning_ignored_share or 0.0
    checks = [
        (
            "low_validity",
            answers.valid_share,
            config.min_valid_share,
            answers.valid_share < config.min_valid_share,
            "train SFT longer, or raise the weight of the format reward",
        ),
        (
            "truncated_answers",
            answers.truncated_share,
            config.max_truncated_share,
            answers.truncated_share > config.max_truncated_share,
            "raise evaluate.max_new_tokens, or shorten the reasoning that SFT teaches",
        ),
        (
            "constant_answers",
            answers.constant_share,
            config.max_constant_share,
            users >= _FEW_USERS and answers.constant_share > config.max_constant_share,
            "the model ignores the user: train on more prompts, or shuffle the candidates",
        ),
        (
            "superficial_reasoning",
            ignored,
            config.max_reasoning_ignored_share,
            answers.reasoning_probes >= _FEW_PROBES and ignored > config.max_reasoning_ignored_share,
            "the answer does not follow from the reasoning: raise grpo.reward.reasoning, or do without it",
        ),
    ]
    return [
        Alarm(name=name, model=model.name, value=value, bound=bound, remedy=remedy)
        for name, value, bound, broken, remedy in checks
        if broken
    ]

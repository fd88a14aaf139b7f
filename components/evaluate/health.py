"""Failure signatures that show in the answers themselves, each with its figure, bound and remedy."""

from collections.abc import Sequence

from components.evaluate.config import HealthConfig
from data_contracts.evaluation import Alarm, Comparator, Difference

TRAINED = ("sft", "grpo")
"""Models that must keep the bounds; a base model that has never seen the format may break them."""

_FEW_PROBES = 10  # below it, unmoved answers are no sign
_FEW = 20  # users: below this, equal answers are no sign of a collapse


def alarms(
    config: HealthConfig, comparators: Sequence[Comparator], differences: Sequence[Difference], users: int
) -> list[Alarm]:
    """Return what is wrong with the trained models; empty if nothing is."""
    found = [
        alarm for one in comparators if one.name in TRAINED for alarm in _answer_alarms(config, one, users)
    ]
    for one in differences:
        if (one.model, one.baseline, one.metric) == ("grpo", "sft", "ndcg@10") and one.high < 0:
            remedy = "GRPO made the model worse: lower its learning rate or raise beta, and send SFT on"
            found.append(Alarm(name="below_sft", model="grpo", value=one.mean, bound=0.0, remedy=remedy))
    return found


def _answer_alarms(config: HealthConfig, one: Comparator, users: int) -> list[Alarm]:
    answers = one.answers
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
            users >= _FEW and answers.constant_share > config.max_constant_share,
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
        Alarm(name=name, model=one.name, value=value, bound=bound, remedy=remedy)
        for name, value, bound, broken, remedy in checks
        if broken
    ]

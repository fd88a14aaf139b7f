"""Failure signatures of a GRPO training, each with its figure, bound and remedy (RecLLM-R1, section 5).

Figures are means over the last `window` steps, relative ones compare them with the first `window` steps.
Whether an answer's reasoning has any influence is measured by the evaluation step.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from components.grpo.config import HealthBounds
from components.shared.metrics import mean
from data_contracts.evaluation import Alarm

History = Mapping[str, Sequence[float]]
Validations = Mapping[int, Mapping[str, float]]

LOWER_RATE = "lower grpo.learning_rate or raise grpo.beta"

Check = tuple[str, float | None, Literal["below", "above"], float, str]
"""Name, figure (None: the engine does not report it), on which side of which bound it alarms, remedy."""


def alarms(bounds: HealthBounds, history: History, validations: Validations) -> list[Alarm]:
    """Return the signatures seen so far; empty if none is.

    `history` has one value per step for "reward", "format", "kl" (nats per token), "entropy" (nats per
    token) and "groups_without_task_variance", as far as the engine reports them; the others are not checked.
    `validations` maps steps to figures with "valid_ndcg@10", step 0 being the SFT model.
    """
    if not history.get("reward"):
        return []
    first, last = _windows(bounds, history)
    entropy, flat = first.get("entropy", 0.0), last.get("groups_without_task_variance")
    remedy = "train SFT longer, or raise grpo.reward.format"
    checks: list[Check] = [("low_format", last.get("format"), "below", bounds.min_format, remedy)]
    checks.append(("high_kl", last.get("kl"), "above", bounds.max_kl, LOWER_RATE))
    remedy = "raise grpo.group_size or grpo.temperature: groups of equal reward teach nothing"
    checks.append(("no_task_variance", flat, "above", bounds.max_flat_groups, remedy))
    low, high = entropy / bounds.entropy_factor, entropy * bounds.entropy_factor
    remedy = f"{LOWER_RATE}: every answer becomes the same"
    checks.append(("low_entropy", last.get("entropy"), "below", low, remedy))
    remedy = f"{LOWER_RATE}: answers become noise"
    checks.append(("high_entropy", last.get("entropy"), "above", high, remedy))
    if len(validations) > 1:
        drop = validations[max(validations)]["valid_ndcg@10"] - validations[0]["valid_ndcg@10"]
        remedy = f"{LOWER_RATE}; the best model by validation is kept"
        checks.append(("validation_drop", drop, "below", -bounds.max_drop, remedy))
        if drop < -bounds.max_drop and len(history["reward"]) >= 2 * bounds.window:
            rise = last["reward"] - first["reward"]
            remedy = "the reward pays for something else than ranking: look at its terms, lower their weights"
            checks.append(("reward_hacking", rise, "above", bounds.min_rise, remedy))
    return _failed(checks)


def collapse(bounds: HealthBounds, history: History) -> Alarm | None:
    """Return why training should stop (format rate halved, KL out of bounds), or None."""
    if len(history.get("reward", ())) < bounds.window:
        return None
    first, last = _windows(bounds, history)
    checks: list[Check] = [
        ("high_kl", last.get("kl"), "above", bounds.max_kl, LOWER_RATE),
        ("format_lost", last.get("format"), "below", first.get("format", 0.0) / 2, LOWER_RATE),
    ]
    return next(iter(_failed(checks)), None)


def _windows(bounds: HealthBounds, history: History) -> tuple[dict[str, float], dict[str, float]]:
    """Return the means over the first and over the last window, by name."""
    first = {name: mean(values[: bounds.window]) for name, values in history.items()}
    return first, {name: mean(values[-bounds.window :]) for name, values in history.items()}


def _failed(checks: Sequence[Check]) -> list[Alarm]:
    return [
        Alarm(name=name, model="grpo", value=value, bound=bound, remedy=remedy)
        for name, value, side, bound, remedy in checks
        if value is not None and (value < bound if side == "below" else value > bound)
    ]

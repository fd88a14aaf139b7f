"""Failure signatures of a GRPO training, each with its figure, bound and remedy (RecLLM-R1, section 5).

Figures are means over the last `window` steps, relative ones compare them with the first `window` steps.
Whether an answer's reasoning has any influence is measured by the evaluation step.
"""

from collections.abc import Mapping, Sequence

from components.grpo.config import HealthBounds
from components.shared.metrics import mean
from data_contracts.evaluation import Alarm

History = Mapping[str, Sequence[float]]
Validations = Mapping[int, Mapping[str, float]]

LOWER_RATE = "lower grpo.learning_rate or raise grpo.beta"


def alarms(bounds: HealthBounds, history: History, validations: Validations) -> list[Alarm]:
    """Return the signatures seen so far; empty if none is.

    `history` has one value per step for "reward", "format", "kl" (nats per token), "entropy" (nats per
    token) and "groups_without_task_variance", as far as the engine reports them; the others are not checked.
    `validations` maps steps to figures with "valid_ndcg@10", step 0 being the SFT model.
    """
    if not history.get("reward"):
        return []
    found = []
    if "format" in history and (kept := _last(bounds, history["format"])) < bounds.min_format:
        remedy = "train SFT longer, or raise grpo.reward.format"
        found.append(_alarm("low_format", kept, bounds.min_format, remedy))
    if "kl" in history and (kl := _last(bounds, history["kl"])) > bounds.max_kl:
        found.append(_alarm("high_kl", kl, bounds.max_kl, LOWER_RATE))
    groups = "groups_without_task_variance"
    if groups in history and (flat := _last(bounds, history[groups])) > bounds.max_flat_groups:
        remedy = "raise grpo.group_size or grpo.temperature: groups of equal reward teach nothing"
        found.append(_alarm("no_task_variance", flat, bounds.max_flat_groups, remedy))
    if "entropy" in history:
        found += _entropy(bounds, history["entropy"])
    return found + _validation(bounds, history["reward"], validations)


def collapse(bounds: HealthBounds, history: History) -> Alarm | None:
    """Return why training should stop, or None: half of the answers' format lost, or KL out of bounds."""
    if len(history.get("reward", ())) < bounds.window:
        return None
    if "kl" in history and (kl := _last(bounds, history["kl"])) > bounds.max_kl:
        return _alarm("high_kl", kl, bounds.max_kl, LOWER_RATE)
    if "format" not in history:
        return None
    kept, least = _last(bounds, history["format"]), _first(bounds, history["format"]) / 2
    return _alarm("format_lost", kept, least, LOWER_RATE) if kept < least else None


def describe(alarm: Alarm) -> str:
    """Return an alarm as one line."""
    return f"{alarm.name}: {alarm.value:.4g}, bound {alarm.bound:.4g}; {alarm.remedy}"


def _entropy(bounds: HealthBounds, entropy: Sequence[float]) -> list[Alarm]:
    now, before = _last(bounds, entropy), _first(bounds, entropy)
    low, high = before / bounds.entropy_factor, before * bounds.entropy_factor
    if now < low:
        remedy = f"{LOWER_RATE}: every answer becomes the same"
        return [_alarm("low_entropy", now, low, remedy)]
    if now > high:
        return [_alarm("high_entropy", now, high, f"{LOWER_RATE}: answers become noise")]
    return []


def _validation(bounds: HealthBounds, reward: Sequence[float], validations: Validations) -> list[Alarm]:
    """Return the alarms of the latest validation compared with the SFT model's."""
    if len(validations) < 2:
        return []
    change = validations[max(validations)]["valid_ndcg@10"] - validations[0]["valid_ndcg@10"]
    if change >= -bounds.max_drop:
        return []
    remedy = f"{LOWER_RATE}; the best model by validation is kept"
    found = [_alarm("validation_drop", change, -bounds.max_drop, remedy)]
    rise = _last(bounds, reward) - _first(bounds, reward)
    if len(reward) >= 2 * bounds.window and rise > bounds.min_rise:
        remedy = "the reward pays for something else than ranking: look at its terms, lower their weights"
        found.append(_alarm("reward_hacking", rise, bounds.min_rise, remedy))
    return found


def _alarm(name: str, value: float, bound: float, remedy: str) -> Alarm:
    return Alarm(name=name, model="grpo", value=value, bound=bound, remedy=remedy)


def _last(bounds: HealthBounds, values: Sequence[float]) -> float:
    return mean(values[-bounds.window :])


def _first(bounds: HealthBounds, values: Sequence[float]) -> float:
    return mean(values[: bounds.window])

"""Configuration of the blend."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from components.shared.config import Seed, strict

TEACHER = "teacher"
"""The learner of an order that SFT takes over, and the name of its lists."""
BLENDS = ("blend", "blend_with_time")
"""Without and with facts of the request's time; both are always reported."""


@strict
class BlendConfig:
    """What is learnt over recommenders' scores, co-occurrence counts and item facts."""

    models: Annotated[tuple[str, ...], Field(min_length=1)] = ("item_to_item", "sasrec")
    """Models whose best items make the pool and whose scores are features."""
    pool: PositiveInt = 100
    """Best items of each model that enter the pool of a prompt."""
    prompts: PositiveInt = 50_000
    """Train prompts at most that the weights are learnt from, a seeded sample."""
    learner: Literal["logit", "lightgbm", "teacher"] = "logit"
    """"logit", or boosted trees that put its first 100 items in a new order: "lightgbm" that of the
    candidates, "teacher" one beside it that SFT learns from (`prompts.target: teacher`)."""
    l2: NonNegativeFloat = 1.0
    """Penalty that draws the weights to the order of the first model; of little effect on many prompts."""
    seed: Seed = 0
    """Seed of the sample and of the trees."""

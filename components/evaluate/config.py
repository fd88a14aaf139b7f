"""Configuration of evaluate and of the gate."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from components.shared.config import Dtype, Seed, Share, strict
from data_contracts.evaluation import TRAINED_MODEL


@strict
class HealthConfig:
    """Bounds on answers of trained models and on labels; beyond them the report warns."""

    min_valid_share: Share = 0.9
    """Share of answers that keep every rule of the format."""
    max_truncated_share: Share = 0.05
    """Share of answers cut off at `max_new_tokens`."""
    max_constant_share: Share = 0.5
    """Share of users with the most frequent answer that is no copy of the list."""
    max_copied_share: Share = 0.9
    """Share of answers that copy the order of the candidates."""
    max_reasoning_ignored_share: Share = 0.9
    """Share of answers that another user's reasoning leaves unchanged."""
    max_tied_share: Share = 0.1
    """Share of users whose label has the time of the event before it; no model is to blame for it."""


@strict
class DriftConfig:
    """Bounds on the log's distance from the champion's training data."""

    max_volume_factor: Annotated[float, Field(ge=1)] = 2.0
    """Times as many events, or as few."""
    max_actions: Share = 0.1
    """Share of the events that would need another action (total variation distance)."""
    max_popularity: Share = 0.15
    """Share of the 500 most popular items' interactions that moved to other items, beyond chance."""
    max_new_items: Share = 0.2
    """Change of the share of items without interactions."""
    max_history_length: Share = 0.2
    """Share of the users whose history would need another length, in powers of two."""


@strict
class EvaluateConfig:
    """How many users are evaluated, how answers are decoded, how intervals are computed."""

    max_users: NonNegativeInt = 0
    """Test users in the seeded sample; 0 = all."""
    ask_unretrieved: bool = True
    """Also ask about users whose label is not among the candidates. Without, their lists are the candidates'
    order: the same accuracy, but diversity, novelty and coverage are partly the candidates'."""
    max_new_tokens: PositiveInt = 128
    """Maximum tokens per answer."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What generates answers: "vllm" uses every GPU of the step, and only the trainer image has it."""
    constrained: bool = True
    """Decode valid answers alone; shares of valid answers still count those that would be so without."""
    batch_size: PositiveInt = 16
    """Prompts decoded together by transformers."""
    temperature: NonNegativeFloat = 0.0
    """Temperature of sampling; 0 = greedy."""
    dtype: Dtype = "auto"
    """Compute dtype; "auto" is bfloat16 where it is faster than float32."""
    bootstrap_samples: Annotated[int, Field(ge=100)] = 2000
    """Resamples of the users per interval."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """Level of the intervals."""
    examples: NonNegativeInt = 10
    """Prompts shown with all answers in the report."""
    reasoning_probes: NonNegativeInt = 20
    """Answers generated again after another user's reasoning, to see whether reasoning matters; 0 = none."""
    scored: bool = True
    """Compare with a generating model's ranking without reasoning: one pass, no generated token."""
    seed: Seed = 0
    """Seed of the sample, of decoding and of the bootstrap."""
    health: HealthConfig = field(default_factory=HealthConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)

    def __post_init__(self) -> None:
        if self.constrained and self.temperature:
            raise ValueError(
                f"temperature is {self.temperature:g}, but constrained answers are decoded greedily, since "
                "which of them were valid without is only known so; set it to 0, or constrained to false"
            )


@strict
class GateConfig:
    """The rules that a model must pass to be registered."""

    metric: Literal["recall@5", "recall@10", "ndcg@5", "ndcg@10", "graded_ndcg@10"] = "ndcg@10"
    """The metric on which opponents must be beaten."""
    beats: tuple[str, ...] = ("best_conventional", "champion")
    """Opponents: "best_conventional", "champion" (passed while there is none), or any comparator's name."""
    significant: bool = True
    """The whole interval must lie above `min_gain`, not only the mean."""
    min_gain: float = 0.0
    """Gain over each opponent."""
    min_valid_share: Share = 0.95
    """Smallest share of valid answers."""
    refuse_worse_slices: bool = True
    """Refuse a model that is significantly worse than an opponent of `beats` on a part of the users."""
    slice_level: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Level of this test, corrected for the number of slices."""
    reasoning_pays: Literal["off", "report", "require"] = "report"
    """The model must beat itself without reasoning (`grpo_scored`); "report" shows it and lets it pass."""
    off_policy: Literal["off", "report", "require"] = "report"
    """The off-policy estimate must lie above what the shown lists earned; "report" lets all pass."""
    min_effective_slots: NonNegativeFloat = 100.0
    """Effective sample size below which the off-policy estimate proves nothing."""
    refuse_alarms: bool = True
    """Refuse a model with a health alarm."""
    dry_run: bool = False
    """Apply the rules and let nothing pass: for experiments."""

    def __post_init__(self) -> None:
        if TRAINED_MODEL in self.beats:
            raise ValueError(f"beats holds '{TRAINED_MODEL}', the model that is judged")

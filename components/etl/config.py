"""Configuration of the data steps; the defaults are the laptop's values."""

from dataclasses import field
from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from components.shared.artifacts.raw_sources import RawSources
from components.shared.config import Seed, Share, strict
from components.shared.labels import LabelSettings
from components.shared.prompting.settings import PromptSettings, Target
from components.shared.spark.config import SparkConfig
from components.shared.times import parse_time
from data_contracts.null_words import NULL_WORDS

ACTION_WEIGHTS = {
    "view": 0.1,
    "click": 0.5,
    "like": 1.0,
    "save": 2.0,
    "comment": 2.0,
    "share": 3.0,
    "follow": 3.0,
    "purchase": 4.0,
}


@strict
class SequencesConfig:
    """How raw events become one sequence per user."""

    split: Literal["leave_one_out", "temporal"] = "leave_one_out"
    """Split: "leave_one_out" (the last item tests, the one before validates) or "temporal" (global cuts)."""
    min_interactions: PositiveInt = 5
    """Users with fewer distinct items are dropped; leave_one_out needs at least 3."""
    core: NonNegativeInt = 0
    """k-core: keep users and items with at least that many partners; 0 = off, otherwise at least 2."""
    as_of: str = ""
    """End of the data window (ISO 8601): later events are left out; empty = no end."""
    valid_days: PositiveInt = 7
    """Temporal split: days of validation, before the test days."""
    test_days: PositiveInt = 7
    """Temporal split: days of test, before `as_of`."""
    latest: str = ""
    """Later events are quarantined as future; empty = a day from now."""
    sources: RawSources = field(default_factory=RawSources)
    """Names of files, columns and actions, where they are not the contract's."""
    exposures: str = ""
    """Folder or s3:// URI of the table exposures; empty = the data folder, where it is optional."""
    action_weights: dict[str, NonNegativeFloat] = field(default_factory=lambda: dict(ACTION_WEIGHTS))
    """Engagement of each action."""
    dwell_weight: NonNegativeFloat = 1.0
    """Engagement of a full dwell time."""
    full_dwell_seconds: PositiveFloat = 60.0
    """Dwell time that counts fully."""
    max_quarantine_share: Share = 0.05
    """Share of a table's rows that may be quarantined before the run stops."""
    unknown_users: Literal["keep", "quarantine"] = "keep"
    """What happens to events of users without a row in the table users."""
    max_unknown_users: Share = 0.5
    """Share of the log's users that may lack a row in users before the run stops."""
    max_unknown_items: Share = 0.5
    """Share of the log's items that may lack a row in items before the run stops."""
    null_words: tuple[str, ...] = NULL_WORDS
    """Texts that are read as nulls, also in upper and title case; () = none."""
    emoji: Literal["keep", "cut"] = "keep"
    """Whether titles keep their emoji."""
    partitions: NonNegativeInt = 0
    """Part files of a table and shuffle partitions of the events; 0 = one per 500,000 rows."""
    spark: SparkConfig = field(default_factory=SparkConfig)

    def __post_init__(self) -> None:
        if self.split == "leave_one_out" and self.min_interactions < 3:
            raise ValueError(f"min_interactions={self.min_interactions}: leave_one_out needs at least 3")
        if self.core == 1:
            raise ValueError("core=1: 0 switches it off, otherwise at least 2")
        if unknown := set(self.action_weights) - set(ACTION_WEIGHTS):
            raise ValueError(
                f"action_weights: unknown actions {sorted(unknown)}; known: {list(ACTION_WEIGHTS)}"
            )
        for name in ("as_of", "latest"):
            if text := getattr(self, name):
                parse_time(name, text)


@strict
class PromptsConfig(PromptSettings):
    """How sequences and candidates become prompts."""

    train_prompts: NonNegativeInt = 0
    """Training prompts, a seeded sample; 0 = all."""
    valid_prompts: NonNegativeInt = 200
    """Validation users, a seeded sample; 0 = all."""
    test_prompts: NonNegativeInt = 0
    """Test users, a seeded sample; 0 = all."""
    label_min_engagement: float = 0.0
    """Engagement that a label of validation and test needs; the item at the label's position counts if none
    is that strong. The label of a train prompt is the item at its position."""
    shuffle_candidates: bool = False
    """Shuffle the candidates of all training prompts; those judged and served keep their order."""
    shuffle_train_share: Share = 0.1
    """Share of the training prompts whose candidates are shuffled, so that copying the order does not pay."""
    target: Target = "labels"
    """The order that SFT teaches: "labels" (by engagement, then the others as they stand), "cues" (what
    shares most with the history) or "teacher" (of `retrieve.blend.learner: teacher`)."""
    rationale: bool = True
    """Give SFT answers a short reasoning built from what the prompt shows."""
    unretrieved: Literal["drop", "keep"] = "drop"
    """What happens to training prompts whose label is not among the candidates: they teach no ranking, but
    for a teacher's."""
    seed: Seed = 0
    """Seed of the samples and of shuffling."""
    spark: SparkConfig = field(default_factory=SparkConfig)

    @property
    def labels(self) -> LabelSettings:
        """Return which items of a window are labels: as many as an answer names."""
        return LabelSettings(most=self.answer_length, min_engagement=self.label_min_engagement)

"""Configuration of the data steps; the defaults are the laptop's values."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from components.shared.prompt_settings import PromptSettings

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


@dataclass(frozen=True, kw_only=True)
class SparkConfig:
    """Where Spark runs and with how much; `conf` passes any other Spark property through.

    `memory` is the driver's heap, which on a `local[...]` master is all the memory Spark has.
    `quick_start` makes the JVM compile less: half the processor time for runs of under a minute, slower
    for long ones, so switch it off for tens of millions of events.
    """

    master: str = "local[*]"
    memory: str = "2g"
    shuffle_partitions: int = 4
    quick_start: bool = True
    conf: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _positive(shuffle_partitions=self.shuffle_partitions)

    @property
    def is_local(self) -> bool:
        """Return whether all of Spark runs in one process on this machine, with this machine's disk."""
        return self.master == "local" or self.master.startswith("local[")


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Size and shape of a generated log.

    `items_per_user` is the mean number of items a user meets, some of them again (in a small catalogue
    about a quarter, because tastes are narrow); `dirty_share` is the share of
    rows, added to the events, that break the contract in one of the ways the quarantine knows.
    `interest_share` is how much of a user's tastes the profile tells.
    """

    users: int = 1600
    items: int = 1000
    items_per_user: float = 14.0
    days: int = 60
    start: str = "2025-01-01"
    exposures: bool = True
    interest_share: float = 0.6
    dirty_share: float = 0.0
    chunk_users: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        _positive(users=self.users, items=self.items, days=self.days, chunk_users=self.chunk_users)
        _within(0, 0.9, dirty_share=self.dirty_share)
        _within(0, 1, interest_share=self.interest_share)
        _within(1, 1000, items_per_user=self.items_per_user)
        parse_time("start", self.start)


@dataclass(frozen=True, kw_only=True)
class SequencesConfig:
    """How raw events become one sequence a user.

    `split` "leave_one_out": the last item tests, the one before validates. "temporal": global cuts in
    UTC; test is [as_of - test_days, as_of), validation the `valid_days` before, training the rest.
    `as_of` (ISO 8601) also ends the data window under either split: later events are left out; empty
    means no end. An event later than `latest` (empty: a day from now, as clocks differ) comes from the
    future and is quarantined, as is every other row-level fault; above `max_quarantine_share` of the rows
    of a table the run stops. `core` > 1 keeps only users and items with at least that many partners, to a
    fixed point. `exposures` names the folder or s3:// URI that holds the table `exposures`: lists that an
    online system showed, or that a retrieval system of the user's own made, each with its time; empty looks
    for it in the data folder, where it may be missing. `partitions` is the number of part files of a table,
    and of shuffle partitions of the events; 0 takes one for each 500,000 rows, and at least four.
    """

    split: Literal["leave_one_out", "temporal"] = "leave_one_out"
    min_interactions: int = 5
    core: int = 0
    as_of: str = ""
    valid_days: int = 7
    test_days: int = 7
    latest: str = ""
    exposures: str = ""
    action_weights: dict[str, float] = field(default_factory=lambda: dict(ACTION_WEIGHTS))
    dwell_weight: float = 1.0
    full_dwell_seconds: float = 60.0
    max_quarantine_share: float = 0.05
    unknown_users: Literal["keep", "quarantine"] = "keep"
    emoji: Literal["keep", "cut"] = "keep"
    partitions: int = 0
    spark: SparkConfig = field(default_factory=SparkConfig)

    def __post_init__(self) -> None:
        least = 3 if self.split == "leave_one_out" else 1
        if self.min_interactions < least:
            raise ValueError(f"min_interactions={self.min_interactions}: {self.split} needs at least {least}")
        _positive(valid_days=self.valid_days, test_days=self.test_days)
        _positive(full_dwell_seconds=self.full_dwell_seconds)
        _within(0, 1, max_quarantine_share=self.max_quarantine_share)
        if self.partitions < 0:
            raise ValueError(f"partitions={self.partitions}: must not be negative")
        if self.core < 0 or self.core == 1:
            raise ValueError(f"core={self.core}: 0 switches it off, otherwise at least 2")
        if unknown := set(self.action_weights) - set(ACTION_WEIGHTS):
            raise ValueError(
                f"action_weights: unknown actions {sorted(unknown)}; known: {list(ACTION_WEIGHTS)}"
            )
        if negative := [name for name, weight in self.action_weights.items() if weight < 0]:
            raise ValueError(f"action_weights: negative weight for {negative}")
        if self.dwell_weight < 0:
            raise ValueError(f"dwell_weight={self.dwell_weight}: must not be negative")
        for name in ("as_of", "latest"):
            if text := getattr(self, name):
                parse_time(name, text)


@dataclass(frozen=True, kw_only=True)
class PromptsConfig(PromptSettings):
    """How sequences and candidates become prompts; the settings of the text stand in PromptSettings.

    `train_prompts`, `valid_prompts`, `test_prompts` are seeded samples of users; 0 takes all.
    `unretrieved` is what happens to a training prompt whose label is not among the candidates: it
    teaches nothing about ranking, so the default drops it; the number is reported either way.
    """

    train_prompts: int = 0
    valid_prompts: int = 200
    test_prompts: int = 0
    label_min_engagement: float = 0.0
    shuffle_candidates: bool = False
    rationale: bool = True
    unretrieved: Literal["drop", "keep"] = "drop"
    data_source: str = "recllm"
    seed: int = 0
    spark: SparkConfig = field(default_factory=SparkConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train_prompts", "valid_prompts", "test_prompts"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: must not be negative")


def parse_time(name: str, text: str) -> datetime:
    """Return the ISO 8601 `text` as a UTC time; a time without a zone is UTC. Raises ValueError."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"{name}={text!r}: not an ISO 8601 date or time such as 2025-06-30T00:00Z"
        ) from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}={value}: must be positive")


def _within(low: float, high: float, **values: float) -> None:
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(f"{name}={value}: must lie in [{low}, {high}]")

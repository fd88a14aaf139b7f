"""Configuration of evaluate and of the gate."""

from dataclasses import dataclass, field
from typing import Literal

JUDGED = "grpo"
"""The comparator that the gate judges: the model that training ended with, which register then takes."""


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """Bounds on how the trained models may answer; outside them the report carries an alarm."""

    min_valid_share: float = 0.9
    max_truncated_share: float = 0.05
    max_constant_share: float = 0.5  # of users with one and the same answer
    max_reasoning_ignored_share: float = 0.9  # of answers that another user's reasoning leaves as they are

    def __post_init__(self) -> None:
        for name in (
            "min_valid_share",
            "max_truncated_share",
            "max_constant_share",
            "max_reasoning_ignored_share",
        ):
            _check_share(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How the models are asked and how sure the figures must be.

    `max_users` 0 asks every user of the test split; otherwise a seeded sample of them. `temperature` is
    used by "sampled" decoding only. `reasoning_probes` answers are asked for again after another user's
    reasoning, to see whether reasoning matters; 0 = none.
    """

    max_users: int = 0
    max_new_tokens: int = 128
    batch_size: int = 16
    decoding: Literal["greedy", "sampled"] = "greedy"
    temperature: float = 1.0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    bootstrap_samples: int = 2000
    confidence: float = 0.95
    examples: int = 4
    reasoning_probes: int = 20
    seed: int = 0
    health: HealthConfig = field(default_factory=HealthConfig)

    def __post_init__(self) -> None:
        for name, least in (
            ("max_users", 0),
            ("max_new_tokens", 1),
            ("batch_size", 1),
            ("bootstrap_samples", 100),
            ("examples", 0),
            ("reasoning_probes", 0),
            ("seed", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least {least}")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}, must lie in [0.5, 1)")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, must be above 0; for 0 use greedy decoding")


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """The rules that a model must pass to be registered.

    `beats` lists opponents: "best_conventional", "champion" (passed while there is none), or the name
    of any comparator of the report. `significant` asks for the whole interval above `min_gain`, not
    only the mean. `dry_run` judges like always and lets nothing pass: for runs that only try something.
    """

    metric: Literal["recall@5", "recall@10", "ndcg@5", "ndcg@10"] = "ndcg@10"
    beats: tuple[str, ...] = ("best_conventional", "champion")
    significant: bool = True
    min_gain: float = 0.0
    min_valid_share: float = 0.95
    refuse_alarms: bool = True
    dry_run: bool = False

    def __post_init__(self) -> None:
        _check_share("min_valid_share", self.min_valid_share)
        if JUDGED in self.beats:
            raise ValueError(f"beats holds '{JUDGED}', the model that is judged")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}, must lie in [0, 1]")

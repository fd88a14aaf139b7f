"""The evaluation report: what evaluate writes, what the gate and the registry read.

Plain frozen dataclasses with a strict JSON form, so that a report written by one version of the code is
either understood whole by another or refused with the key that differs.
"""

import dataclasses
import json
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from data_contracts.strict import decode, strict

SCHEMA_VERSION = 1

USER_METRICS = ("recall@5", "recall@10", "ndcg@5", "ndcg@10", "ilad", "novelty")
"""Metrics with one value a user; what is reported is their mean. Novelty is in bits, the rest in [0, 1]."""

METRICS = (*USER_METRICS, "coverage")

ACCURACY_METRICS = USER_METRICS[:4]
"""Metrics whose paired differences are reported, so the ones that a gate can demand a gain on."""

NO_MODEL = "none.txt"
"""A model folder that holds this file stands for "there is no such model" (no champion yet)."""

Kind = Literal["conventional", "online", "llm", "champion"]
"""What a comparator is. "online" is the order that was shown: people act on what they are shown, so a log
favours it, and it is no conventional model that must be beaten unless a rule names it."""

ONLINE = "online"
"""The name under which lists from outside are ranked."""

CANDIDATE_ORDER = "candidates"
"""The name under which the candidates of the prompts are ranked, in their own order."""


@strict
class Interval:
    """A bootstrap interval at the sample's `confidence`."""

    low: float
    high: float


@strict
class AnswerStatistics:
    """How a language model answered: shares of users in [0, 1], costs as means a user."""

    valid_share: float  # answers that keep every rule of the format
    duplicate_share: float  # answers that name a candidate more than once
    truncated_share: float  # answers cut off at the token limit
    constant_share: float  # users who got the most frequent answer: 1 means everybody got the same
    seconds_per_user: float
    tokens_per_user: float
    reasoning_probes: int = 0  # answers asked for again after another user's reasoning ...
    reasoning_ignored_share: float | None = None  # ... and the share of them that stayed as they were


@strict
class Comparator:
    """One ranked opponent. `metrics` holds every name of METRICS; `answers` is null for conventional ones."""

    name: str
    kind: Kind
    metrics: dict[str, float]
    ndcg_at_10_interval: Interval
    answers: AnswerStatistics | None = None

    def __post_init__(self) -> None:
        if set(self.metrics) != set(METRICS):
            raise ValueError(
                f"comparator '{self.name}': metrics {sorted(self.metrics)}, not {sorted(METRICS)}"
            )


@strict
class Difference:
    """Mean of `model` minus mean of `baseline` on one metric, over the same users, with its interval."""

    model: str
    baseline: str
    metric: str
    mean: float
    low: float
    high: float


@strict
class Sample:
    """Who was asked, and how sure the figures are."""

    split: str
    users: int
    users_available: int
    seed: int
    candidates: float  # mean length of the candidate lists
    recall_ceiling: float  # mean share of a user's labels that are candidates: no order can do better
    catalogue_items: int
    confidence: float
    bootstrap_samples: int


@strict
class Slice:
    """NDCG@10 of every comparator on a part of the users; `rule` says which, in words."""

    name: str
    rule: str
    users: int
    ndcg_at_10: dict[str, float]


@strict
class Alarm:
    """A failure signature that was seen: the figure, the bound it broke, and what to do."""

    name: str
    model: str
    value: float
    bound: float
    remedy: str


@strict
class TrainingAlarms:
    """The file in which a training hands its alarms to the evaluation."""

    alarms: tuple[Alarm, ...]

    def to_json(self) -> str:
        """Return what `read` reads."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> "TrainingAlarms":
        """Read the file at `path`. Raises ValueError naming the file and what is wrong."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: no alarms can be read here ({error})") from error
        return decode(cls, values, str(path))


@strict
class ExampleAnswer:
    """What one model said to an example prompt, and where it put the label (null: not in its top 10)."""

    model: str
    text: str
    valid: bool
    label_rank: int | None


@strict
class Example:
    """One prompt for people to read; `labels` are the titles of what the user engaged with next."""

    user_id: str
    prompt: str
    labels: tuple[str, ...]
    answers: tuple[ExampleAnswer, ...]


@strict
class EvaluationReport:
    """All comparators on the same users by the same evaluator.

    Order: conventional and online, champion, LLMs.
    """

    comparators: tuple[Comparator, ...]
    differences: tuple[Difference, ...]
    sample: Sample
    slices: tuple[Slice, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    examples: tuple[Example, ...] = ()
    lineage: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def comparator(self, name: str) -> Comparator | None:
        """Return the comparator called `name`, or None."""
        return next((one for one in self.comparators if one.name == name), None)

    def best_conventional(self, metric: str) -> Comparator | None:
        """Return the conventional comparator with the highest `metric`; the earlier one of equals."""
        conventional = [one for one in self.comparators if one.kind == "conventional"]
        return max(conventional, key=lambda one: one.metrics[metric], default=None)

    def difference(self, model: str, baseline: str, metric: str) -> Difference | None:
        """Return the paired difference `model` minus `baseline` on `metric`, or None."""
        wanted = (model, baseline, metric)
        return next(
            (one for one in self.differences if (one.model, one.baseline, one.metric) == wanted), None
        )

    def to_json(self) -> str:
        """Return the report as indented JSON. Raises ValueError for NaN or infinity, which JSON lacks."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "report") -> "EvaluationReport":
        """Read what `to_json` wrote.

        Raises:
            ValueError: not JSON, another schema version, an unknown or missing key, or a wrong type; the
                message starts with `source` and the dotted key.
        """
        try:
            values = json.loads(text, parse_constant=_refuse_constant)
        except ValueError as error:
            raise ValueError(f"{source}: not valid JSON ({error})") from error
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"{source}: schema_version is {version!r}, this code reads {SCHEMA_VERSION}; "
                "evaluate again with the same version of the project"
            )
        return decode(cls, values, source)

    @classmethod
    def read(cls, path: Path) -> "EvaluationReport":
        """Read the report file at `path`. Raises ValueError naming the file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: no report can be read here ({error}); run evaluate") from error
        return cls.from_json(text, str(path))


def parse_lineage(text: str) -> dict[str, Any]:
    """Read the JSON mapping that names what a run was made from. Raises ValueError if it is none."""
    try:
        lineage = json.loads(text)
    except ValueError as error:
        raise ValueError(f"lineage: not valid JSON ({error})") from error
    if not isinstance(lineage, dict):
        raise ValueError(f"lineage: expected a JSON mapping, got {type(lineage).__name__}")
    return lineage


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")

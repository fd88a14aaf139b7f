"""The evaluation report: what evaluate writes, what the gate and the registry read."""

import dataclasses
import json
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, Self

from data_contracts.metrics import HEADLINE_METRICS, METRICS, TITLES, format_metric
from data_contracts.strict import decode_json, strict

REPORT, USERS = "report.json", "users.parquet"
"""The files of evaluate's artifact: the report, and every user's values behind its means."""

DATA_SUMMARY = "data_summary.json"
"""The champion's folder holds the summary of its training data in this file."""

NO_MODEL = "none.txt"
"""A model folder with this file stands for a model that does not exist (no champion yet)."""

Kind = Literal["conventional", "online", "llm", "champion"]
"""What a comparator is. "online" is the order that was shown: people act on what they are shown, so a log
favours it, and the gate only compares with it where a rule names it."""

CANDIDATE_ORDER, BASE_MODEL, CHAMPION, ONLINE = "candidates", "base", "champion", "online"
"""Comparators' names: the candidates in their order, the base model, the champion, what was shown online."""

TRAINED_MODEL = "grpo"
"""The comparator that the gate judges: the trained model, which register takes if it passes."""

SCORED_MODEL = "grpo_scored"
"""The same model without reasoning: candidates in the order of their numbers' likelihood."""

UNFUSED_MODEL = "grpo_alone"
"""A trained model that scores candidates, without the retriever's scores beside its own."""

Lineage = dict[str, Any]
"""What a run was made from, by names: a JSON mapping."""


class _Document:
    """A file of one strict dataclass as JSON."""

    def to_json(self) -> str:
        """Return indented JSON. Raises ValueError for NaN or infinity, which JSON lacks."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str, source: str) -> Self:
        """Return what `to_json` wrote. Raises ValueError naming `source` and the dotted key."""
        return decode_json(cls, text, source)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the document in the file `path`. Raises ValueError naming file and key."""
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error}); run the step that writes it") from error
        return cls.from_json(text, str(path))


@strict
class Interval:
    """A bootstrap interval at the sample's `confidence`."""

    low: float
    high: float


@strict
class AnswerStatistics:
    """How a language model answered: shares of users in [0, 1], mean costs per user."""

    valid_share: float
    """Answers that keep every rule of the format, and did so without being corrected."""
    duplicate_share: float
    """Answers that name a candidate more than once."""
    truncated_share: float
    """Answers cut off at the token limit, or whose reasoning had to be closed before it."""
    constant_share: float
    """Users with the most frequent answer that does not copy the list; 1 if all users got the same."""
    seconds_per_user: float
    tokens_per_user: float
    corrected_share: float = 0.0
    """Answers that constrained decoding had to change; they are valid, too."""
    copied_share: float = 0.0
    """Answers that repeat the candidates in the order in which the prompt lists them."""
    reasoning_probes: int = 0
    """Answers generated again after another user's reasoning."""
    reasoning_ignored_share: float | None = None
    """Share of these that did not change; null without probes."""


@strict
class Comparator:
    """One model or order that was evaluated."""

    name: str
    kind: Kind
    metrics: dict[str, float]
    """The mean of every metric of METRICS."""
    ndcg_at_10_interval: Interval
    recall_by_k: tuple[float, ...]
    """Mean Recall@K for K = 1, 2, … 10."""
    ndcg_by_k: tuple[float, ...]
    """Mean NDCG@K, likewise."""
    answers: AnswerStatistics | None = None
    """Null for all but language models."""

    def __post_init__(self) -> None:
        if set(self.metrics) != set(METRICS):
            raise ValueError(
                f"comparator '{self.name}': metrics {sorted(self.metrics)}, not {sorted(METRICS)}; "
                "evaluate again with this version of the project"
            )

    def figures(self) -> dict[str, str]:
        """Return what tables show of the comparator, by the columns' headers."""
        interval, answers = self.ndcg_at_10_interval, self.answers
        metrics = {TITLES[name]: format_metric(name, self.metrics[name]) for name in HEADLINE_METRICS}
        return metrics | {
            "NDCG@10 interval": f"{interval.low:.4f} to {interval.high:.4f}",
            "valid": f"{answers.valid_share:.1%}" if answers else "",
        }


@strict
class Difference:
    """Mean of `model` minus `baseline` on one metric and the same users, with its interval."""

    model: str
    baseline: str
    metric: str
    mean: float
    low: float
    high: float
    p_holm: float
    """Bootstrap p-value of no difference, corrected (Holm) for the model's comparisons on this metric."""

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@strict
class Sample:
    """The users that were evaluated, and how intervals were computed."""

    split: str
    users: int
    users_available: int
    seed: int
    candidates: float
    """Mean length of the candidate lists."""
    recall_ceiling: float
    """Mean share of a user's labels among the candidates: no order of them has a higher recall."""
    catalogue_items: int
    confidence: float
    bootstrap_samples: int
    tied_share: float = 0.0
    """Share of users whose first label has the time of the event before it: their order decides the label."""
    users_asked: int | None = None
    """Users whom language models were asked about, if not all; others keep the candidates' order."""

    def __str__(self) -> str:
        return (
            f"{self.users:,} of {self.users_available:,} {self.split} users, full catalogue of "
            f"{self.catalogue_items:,} items, recall ceiling {self.recall_ceiling:.3f}"
        )


@strict
class Slice:
    """NDCG@10 of every comparator on a part of the users."""

    name: str
    rule: str
    """Which users, in words; "" for a group of the profile, whose name says it."""
    users: int
    ndcg_at_10: dict[str, float]
    differences: tuple[Difference, ...]
    """Of the last model to every other comparator in NDCG@10; p-values are corrected over the slices."""


@strict
class OffPolicy:
    """What a ranking would have earned where the online system showed lists; see `logged.off_policy`."""

    name: str
    engagement: float
    """Estimated mean engagement per slot."""
    low: float
    high: float
    effective_slots: float
    """Effective sample size (Kish) of users with a label: as many unweighted slots would be as certain."""
    matching_users: int
    """Users with a slot in which the ranking agrees with what was shown."""
    users: int
    """Users with a list and propensities."""
    users_without_label: int
    """Those of them who engaged with nothing in the test, and so need no ranking."""

    def __str__(self) -> str:
        return f"{self.engagement:.4f} [{self.low:.4f}, {self.high:.4f}]"


@strict
class Alarm:
    """A failure signature that was seen: its value, the broken bound, and a remedy."""

    name: str
    model: str
    value: float
    bound: float
    remedy: str

    def __str__(self) -> str:
        return f"{self.name} ({self.model}): {self.value:.3g}, bound {self.bound:.3g}; {self.remedy}"


@strict
class TrainingAlarms(_Document):
    """The alarms of a training, which the evaluation report repeats."""

    alarms: tuple[Alarm, ...]


@strict
class ExampleAnswer:
    """One model's answer to an example prompt."""

    model: str
    text: str
    valid: bool
    label_rank: int | None
    """Rank of the best label; null if none is in the top 10."""


@strict
class Example:
    """One prompt with all answers, for people to read."""

    user_id: str
    prompt: str
    labels: tuple[str, ...]
    """Titles of the items that the user engaged with next."""
    answers: tuple[ExampleAnswer, ...]


@strict
class DataSummary(_Document):
    """What the training data were like; travels with a version for comparison."""

    users: int
    items: int
    events: int
    interactions: int
    """Of users with items in the train part; an item counts once for each user."""
    actions: dict[str, float]
    """Share of the events by action."""
    popular: dict[str, float]
    """Share of the train interactions by item, of the most popular items."""
    new_item_share: float
    """Share of the catalogue without train interactions."""
    history_lengths: dict[str, float]
    """Share of the users by items in their train part, in powers of two."""
    refused: dict[str, int]
    """Rows that the contracts refused, by table and reason."""


@strict
class Drift:
    """One measure of how far the log is from the champion's training data."""

    name: str
    value: float
    """A factor for volume, else a distance in [0, 1]."""
    bound: float
    then: str
    now: str


@strict
class EvaluationReport(_Document):
    """All comparators on the same users by the same evaluator."""

    comparators: tuple[Comparator, ...]
    """In this order: conventional models and online, champion, language models as they were trained."""
    differences: tuple[Difference, ...]
    sample: Sample
    slices: tuple[Slice, ...] = ()
    off_policy: tuple[OffPolicy, ...] = ()
    """The lists as they were shown, then rankings; empty without propensities."""
    data: DataSummary | None = None
    drift: tuple[Drift, ...] = ()
    """Against the champion's training data; empty without a champion whose summary is kept."""
    alarms: tuple[Alarm, ...] = ()
    examples: tuple[Example, ...] = ()
    lineage: Lineage = field(default_factory=dict)
    schema_version: Literal[4] = 4

    def known_lineage(self) -> dict[str, str]:
        """Return the lineage as texts, without what is not known."""
        texts = {name: v if isinstance(v, str) else json.dumps(v) for name, v in self.lineage.items()}
        return {name: text for name, text in texts.items() if text}

    def comparator(self, name: str) -> Comparator | None:
        """Return the comparator called `name`, or None."""
        return next((found for found in self.comparators if found.name == name), None)

    def best_conventional(self, metric: str) -> Comparator:
        """Return the conventional comparator with the highest `metric`; the earlier of equals."""
        conventional = [found for found in self.comparators if found.kind == "conventional"]
        return max(conventional, key=lambda found: found.metrics[metric])

    def difference(self, model: str, baseline: str, metric: str) -> Difference | None:
        """Return the paired difference `model` minus `baseline` on `metric`, or None."""
        key = (model, baseline, metric)
        return next((d for d in self.differences if (d.model, d.baseline, d.metric) == key), None)

"""Scores of one comparator: a value per user for each metric."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.evaluate.tables import DEPTH, Catalogue
from components.shared import metrics
from components.shared.prompting.table import PromptRow
from data_contracts.evaluation import USER_METRICS, AnswerStatistics, Kind

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One comparator's values, [user] for each of USER_METRICS, in the order of the prompts."""

    name: str
    kind: Kind
    values: dict[str, Values]
    coverage: float
    answers: AnswerStatistics | None = None


def score(
    name: str,
    kind: Kind,
    rankings: Sequence[Sequence[str]],
    prompts: Sequence[PromptRow],
    catalogue: Catalogue,
    answers: AnswerStatistics | None = None,
) -> Scores:
    """Return the scores of `rankings` (per prompt, item ids best first) against the labels.

    A label outside the ranking is a miss. Items that the catalogue lacks have no tags and the novelty
    of an item without interactions.
    """
    unseen = max(catalogue.novelty.values())
    rows: dict[str, list[float]] = {metric: [] for metric in USER_METRICS}
    shown: set[str] = set()
    for ranking, prompt in zip(rankings, prompts, strict=True):
        top, labels = list(ranking[:DEPTH]), set(prompt.label_items)
        shown.update(top)
        for k in (5, 10):
            rows[f"recall@{k}"].append(metrics.recall_at_k(top, labels, k))
            rows[f"ndcg@{k}"].append(metrics.ndcg_at_k(top, labels, k))
        # Scaled, so that equal weights give NDCG to the last bit.
        strongest = max(prompt.label_weights) or 1.0
        gains: dict[Hashable, float] = {item: gain / strongest for item, gain in prompt.gains.items()}
        rows["graded_ndcg@10"].append(metrics.ndcg_at_k(top, gains, 10))
        rows["ilad"].append(metrics.ilad([catalogue.tags.get(item, frozenset()) for item in top]))
        rows["novelty"].append(metrics.mean([catalogue.novelty.get(item, unseen) for item in top]))
    return Scores(
        name=name,
        kind=kind,
        values={metric: np.array(values) for metric, values in rows.items()},
        coverage=len(shown) / len(catalogue),
        answers=answers,
    )


def recall_ceiling(prompts: Sequence[PromptRow]) -> float:
    """Return the mean share of a user's labels that are among the candidates."""
    shares = [
        metrics.recall_at_k(prompt.candidates, set(prompt.label_items), len(prompt.candidates))
        for prompt in prompts
    ]
    return metrics.mean(shares)

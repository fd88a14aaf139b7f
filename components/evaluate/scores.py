"""Scores of one comparator: a value per user for each metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.evaluate.tables import DEPTH, Catalogue
from components.shared import metrics
from components.shared.artifacts.fingerprint import of_text
from components.shared.artifacts.outputs import atomic_file
from components.shared.metrics import Floats
from components.shared.prompting.table import PromptRow
from data_contracts.evaluation import AnswerStatistics, Kind


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One comparator's values, [user] for each of USER_METRICS, in the order of the prompts.

    `overall` has the metrics that only all lists together have; the last two are means by K.
    """

    name: str
    kind: Kind
    values: dict[str, Floats]
    overall: dict[str, float]
    recall_by_k: tuple[float, ...]
    ndcg_by_k: tuple[float, ...]
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

    A label outside the ranking is a miss. Items that the catalogue lacks have no tags, and the novelty and
    popularity of an item without interactions.
    """
    top, labels = metrics.numbered(
        [ranking[:DEPTH] for ranking in rankings],
        [prompt.label_items for prompt in prompts],
        known=catalogue.titles,
    )
    binary = metrics.judge(top, labels)
    # Scaled, so that equal weights give NDCG to the last bit.
    gains = metrics.padded([prompt.label_weights for prompt in prompts], 0.0)
    strongest = gains.max(axis=1, initial=0.0, keepdims=True)
    graded = metrics.judge(top, labels, gains / np.where(strongest > 0, strongest, 1.0))
    known = np.where(top < len(catalogue), top, len(catalogue))
    values = {
        **{f"recall@{k}": binary.recall(k) for k in (5, 10)},
        **{f"ndcg@{k}": binary.ndcg(k) for k in (5, 10)},
        "graded_ndcg@10": graded.ndcg(10),
        "mrr@10": binary.reciprocal_rank(10),
        "map@10": binary.average_precision(10),
        "ilad": metrics.ilad(known, catalogue.tags),
        "novelty": metrics.list_mean(known, catalogue.novelty),
        "popularity": metrics.list_mean(known, catalogue.train_counts),
    }
    listed = np.where(top < len(catalogue), top, -1)
    overall = {
        "coverage": metrics.coverage(listed, len(catalogue)),
        "gini": metrics.gini(listed, len(catalogue)),
    }
    return Scores(
        name=name,
        kind=kind,
        values=values,
        overall=overall,
        recall_by_k=tuple(float(binary.recall(k).mean()) for k in range(1, DEPTH + 1)),
        ndcg_by_k=tuple(float(binary.ndcg(k).mean()) for k in range(1, DEPTH + 1)),
        answers=answers,
    )


def write_values(path: Path, prompts: Sequence[PromptRow], scores: Sequence[Scores]) -> None:
    """Write every user's values, a row per comparator and prompt, as one Parquet file.

    Columns: model, user_id, position, labels (their fingerprint: another log may have another label at the
    same position), and USER_METRICS. Two versions are compared by them later.
    """
    keys = {
        "user_id": pa.array([row.user_id for row in prompts], pa.string()),
        "position": pa.array([row.position for row in prompts], pa.int32()),
        "labels": pa.array([of_text(*row.label_items) for row in prompts], pa.string()),
    }
    with atomic_file(path) as partial:
        tables = [
            pa.table({"model": pa.repeat(score.name, len(prompts)), **keys, **score.values})
            for score in scores
        ]
        pq.write_table(pa.concat_tables(tables), partial)


def recall_ceiling(prompts: Sequence[PromptRow]) -> float:
    """Return the mean share of a user's labels that are among the candidates."""
    judged = metrics.judge(
        *metrics.numbered([row.candidates for row in prompts], [row.label_items for row in prompts])
    )
    return float(judged.recall(judged.hits.shape[1]).mean())

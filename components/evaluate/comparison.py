"""Means, intervals and paired differences of all comparators, over all users and over slices."""

from collections.abc import Sequence

import numpy as np

from components.evaluate.scores import Scores
from components.evaluate.significance import bootstrap_means, interval
from components.evaluate.tables import Catalogue
from components.shared.prompting.table import PromptRow
from data_contracts.evaluation import (
    COMPARED_METRICS,
    USER_METRICS,
    Comparator,
    Difference,
    Sample,
    Slice,
)


def compare(scores: Sequence[Scores], sample: Sample) -> tuple[list[Comparator], list[Difference]]:
    """Return all comparators, and each language model's differences to the comparators before it."""
    means = {
        metric: bootstrap_means(
            np.stack([score.values[metric] for score in scores]), sample.bootstrap_samples, sample.seed
        )
        for metric in COMPARED_METRICS
    }
    comparators = [
        Comparator(
            name=score.name,
            kind=score.kind,
            metrics={metric: float(score.values[metric].mean()) for metric in USER_METRICS}
            | {"coverage": score.coverage},
            ndcg_at_10_interval=interval(means["ndcg@10"][:, i], sample.confidence),
            answers=score.answers,
        )
        for i, score in enumerate(scores)
    ]
    differences = []
    for i, model in enumerate(scores):
        for j, baseline in enumerate(scores[:i] if model.answers else ()):
            for metric in COMPARED_METRICS:
                bounds = interval(means[metric][:, i] - means[metric][:, j], sample.confidence)
                differences.append(
                    Difference(
                        model=model.name,
                        baseline=baseline.name,
                        metric=metric,
                        mean=float((model.values[metric] - baseline.values[metric]).mean()),
                        low=bounds.low,
                        high=bounds.high,
                    )
                )
    return comparators, differences


def slices(prompts: Sequence[PromptRow], scores: Sequence[Scores], catalogue: Catalogue) -> list[Slice]:
    """Return NDCG@10 for users with short histories and for tail items; empty slices are left out."""
    positions = np.array([prompt.position for prompt in prompts])
    short = int(np.quantile(positions, 1 / 3, method="lower"))
    tail = np.array([catalogue.head.isdisjoint(prompt.label_items) for prompt in prompts])
    parts = [
        ("cold users", f"at most {short} items before the label (shortest third)", positions <= short),
        ("tail items", "no label among the most popular fifth of the catalogue", tail),
    ]
    return [
        Slice(
            name=name,
            rule=rule,
            users=int(users.sum()),
            ndcg_at_10={score.name: float(score.values["ndcg@10"][users].mean()) for score in scores},
        )
        for name, rule, users in parts
        if users.any()
    ]

"""Means, intervals and paired differences of all comparators."""

from collections.abc import Sequence

import numpy as np

from components.evaluate.scores import Scores
from components.evaluate.significance import bootstrap_means, interval
from data_contracts.evaluation import ACCURACY_METRICS, USER_METRICS, Comparator, Difference, Sample


def compare(scores: Sequence[Scores], sample: Sample) -> tuple[list[Comparator], list[Difference]]:
    """Return every comparator's means, and each language model's paired differences to those before it."""
    means = {
        metric: bootstrap_means(
            np.stack([one.values[metric] for one in scores]), sample.bootstrap_samples, sample.seed
        )
        for metric in ACCURACY_METRICS
    }
    comparators = [
        Comparator(
            name=one.name,
            kind=one.kind,
            metrics={metric: float(one.values[metric].mean()) for metric in USER_METRICS}
            | {"coverage": one.coverage},
            ndcg_at_10_interval=interval(means["ndcg@10"][:, i], sample.confidence),
            answers=one.answers,
        )
        for i, one in enumerate(scores)
    ]
    differences = []
    for i, model in enumerate(scores):
        for j, baseline in enumerate(scores[:i] if model.answers else ()):
            for metric in ACCURACY_METRICS:
                bounds = interval(means[metric][:, i] - means[metric][:, j], sample.confidence)
                difference = float((model.values[metric] - baseline.values[metric]).mean())
                differences.append(
                    Difference(
                        model=model.name,
                        baseline=baseline.name,
                        metric=metric,
                        mean=difference,
                        low=bounds.low,
                        high=bounds.high,
                    )
                )
    return comparators, differences

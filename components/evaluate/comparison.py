"""Means, bootstrap intervals and paired differences of all comparators, over all users and over slices.

Percentile bootstrap over users (Efron & Tibshirani 1993). Every comparator is resampled with the same users,
so the interval of a difference is narrower where two models find the same users easy.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from components.evaluate.scores import Scores, Values
from components.evaluate.tables import Catalogue
from components.shared.prompting.table import PromptRow
from data_contracts.evaluation import (
    COMPARED_METRICS,
    USER_METRICS,
    Comparator,
    Difference,
    Interval,
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
    differences = [
        Difference(
            model=model.name,
            baseline=baseline.name,
            metric=metric,
            mean=float((model.values[metric] - baseline.values[metric]).mean()),
            **asdict(interval(means[metric][:, i] - means[metric][:, j], sample.confidence)),
        )
        for i, model in enumerate(scores)
        if model.answers
        for j, baseline in enumerate(scores[:i])
        for metric in COMPARED_METRICS
    ]
    return comparators, differences


def bootstrap_means(values: Values, samples: int, seed: int) -> Values:
    """Return the means [sample, comparator] of `values` [comparator, user] over resampled users.

    Resamples draw as many users as there are, with replacement: the same for every comparator, and for
    equal seed, number of users and number of samples. Raises ValueError without users.
    """
    users = values.shape[1]
    if not users:
        raise ValueError("a bootstrap needs at least one user")
    generator = np.random.default_rng(seed)
    draws = (generator.integers(0, users, users) for _ in range(samples))
    return np.stack([values.take(drawn, axis=1).mean(axis=1) for drawn in draws])


def interval(means: Values, confidence: float) -> Interval:
    """Return the central interval holding `confidence` of the resampled means [sample]."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high))


def slices(prompts: Sequence[PromptRow], scores: Sequence[Scores], catalogue: Catalogue) -> list[Slice]:
    """Return NDCG@10 for users with short histories and for tail items, without empty slices."""
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

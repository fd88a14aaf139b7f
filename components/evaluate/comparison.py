"""Means, bootstrap intervals and paired differences of all comparators.

Percentile bootstrap over users (Efron & Tibshirani 1993). Every comparator is resampled with the same users,
so the interval of a difference is narrower where two models find the same users easy.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from threadpoolctl import threadpool_limits

from components.evaluate.scores import Scores
from components.shared.metrics import Bools, Floats
from data_contracts.evaluation import Comparator, Difference, Interval, Sample
from data_contracts.metrics import COMPARED_METRICS, USER_METRICS

_BLOCK_BYTES = 32 << 20
"""Memory of the users' counts in the resamples that are computed at a time."""


def compare(scores: Sequence[Scores], sample: Sample) -> tuple[list[Comparator], list[Difference]]:
    """Return all comparators, and each language model's differences to the comparators before it."""
    stacked = np.stack([[score.values[metric] for score in scores] for metric in COMPARED_METRICS])
    resampled = resampled_means(stacked, sample.bootstrap_samples, sample.seed)
    means = dict(zip(COMPARED_METRICS, resampled, strict=True))
    comparators = [
        Comparator(
            name=score.name,
            kind=score.kind,
            metrics={metric: float(score.values[metric].mean()) for metric in USER_METRICS} | score.overall,
            ndcg_at_10_interval=interval(means["ndcg@10"][i], sample.confidence),
            recall_by_k=score.recall_by_k,
            ndcg_by_k=score.ndcg_by_k,
            answers=score.answers,
        )
        for i, score in enumerate(scores)
    ]
    differences = [
        found
        for i, model in enumerate(scores)
        if model.answers and i
        for metric in COMPARED_METRICS
        for found in _differences(scores[: i + 1], metric, means[metric], sample.confidence)
    ]
    return comparators, differences


def _differences(scores: Sequence[Scores], metric: str, means: Floats, confidence: float) -> list[Difference]:
    """Return the last of `scores` minus each one before it; p-values are corrected over these."""
    *baselines, model = scores
    resampled = [means[len(baselines)] - means[j] for j in range(len(baselines))]
    corrected = holm([p_value(values) for values in resampled])
    return [
        difference(model, baseline, metric, values, confidence, p_holm=p)
        for baseline, values, p in zip(baselines, resampled, corrected, strict=True)
    ]


def difference(
    model: Scores,
    baseline: Scores,
    metric: str,
    resampled: Floats,
    confidence: float,
    p_holm: float,
    users: Bools | slice = slice(None),
) -> Difference:
    """Return model minus baseline over `users`, with the interval of the `resampled` means."""
    differences = model.values[metric][users] - baseline.values[metric][users]
    return Difference(
        model=model.name,
        baseline=baseline.name,
        metric=metric,
        mean=float(differences.mean()),
        p_holm=p_holm,
        **asdict(interval(resampled, confidence)),
    )


def resampled_means(values: Floats, samples: int, seed: int) -> Floats:
    """Return the means [..., resample] of `values` [..., user] over resampled users.

    Resamples draw as many users as there are, with replacement: the same for all of `values`, and for
    equal seed, number of users and number of `samples`. Raises ValueError without users.
    """
    users = values.shape[-1]
    if not users:
        raise ValueError("a bootstrap needs at least one user")
    flat = values.reshape(-1, users)
    means = np.empty((len(flat), samples))
    generator = np.random.default_rng(seed)
    # How often each user was drawn, for some resamples at a time: one matrix product serves all values.
    size = max(1, _BLOCK_BYTES // (8 * users))
    with threadpool_limits(1):  # threads of BLAS that wait for a busy core make it many times slower
        for begin in range(0, samples, size):
            counts = np.stack(
                [
                    np.bincount(generator.integers(0, users, users), minlength=users)
                    for _ in range(min(size, samples - begin))
                ]
            )
            means[:, begin : begin + size] = flat @ counts.T.astype(np.float64) / users
    return means.reshape(*values.shape[:-1], -1)


def p_value(means: Floats) -> float:
    """Return the two-sided p-value of a mean of zero, given the resampled means [resample]."""
    below, above = int((means <= 0).sum()), int((means >= 0).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(means)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number (Holm 1979), in their order."""
    count, corrected, worst = len(p_values), list(p_values), 0.0
    for rank, i in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, (count - rank) * p_values[i]))
        corrected[i] = worst
    return corrected


def interval(means: Floats, confidence: float) -> Interval:
    """Return the central interval holding `confidence` of the resampled means [resample]."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high))

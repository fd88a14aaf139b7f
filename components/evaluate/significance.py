"""Paired bootstrap over users (Efron & Tibshirani 1993, percentile interval).

Every comparator is resampled with the same users, so the interval of a difference is narrower where two
models find the same users easy.
"""

import numpy as np
import numpy.typing as npt

from data_contracts.evaluation import Interval

_ELEMENTS = 4_000_000  # values per chunk: bounds memory at about 32 MB
Values = npt.NDArray[np.float64]


def bootstrap_means(values: Values, samples: int, seed: int) -> Values:
    """Return the means [sample, comparator] of `values` [comparator, user] over resampled users.

    Resamples draw as many users as there are, with replacement: the same for every comparator, and for
    equal seed, number of users and number of samples.

    Raises:
        ValueError: there are no users.
    """
    comparators, users = values.shape
    if not users:
        raise ValueError("a bootstrap needs at least one user")
    generator = np.random.default_rng(seed)
    means = np.empty((samples, comparators))
    chunk = max(1, _ELEMENTS // users)
    for start in range(0, samples, chunk):
        stop = min(start + chunk, samples)
        drawn = generator.integers(0, users, size=(stop - start, users))
        for comparator in range(comparators):
            means[start:stop, comparator] = values[comparator][drawn].mean(axis=1)
    return means


def interval(means: Values, confidence: float) -> Interval:
    """Return the central interval holding `confidence` of the resampled means [sample]."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high))

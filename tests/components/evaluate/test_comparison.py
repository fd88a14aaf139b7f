"""The bootstrap against theory, scipy and its own promises."""

import numpy as np
import pytest
from scipy import stats

from components.evaluate.comparison import bootstrap_means, interval


def test_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=(1, 200))
    ours = interval(bootstrap_means(values, 20_000, seed=1)[:, 0], 0.95)
    theirs = stats.bootstrap(
        values, np.mean, n_resamples=20_000, method="percentile", vectorized=True, rng=2
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)


def test_interval_of_a_mean_agrees_with_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=(1, 400))
    found = interval(bootstrap_means(values, 4000, seed=0)[:, 0], 0.95)
    half = 1.96 * values.std() / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_comparators_are_resampled_with_the_same_users() -> None:
    first = np.random.default_rng(0).random(50)
    means = bootstrap_means(np.stack([first, first + 0.25]), 500, seed=0)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 0.25)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(9)
    hits = 0
    for trial in range(300):
        values = generator.random((1, 60)) < 0.3
        found = interval(bootstrap_means(values.astype(float), 400, seed=trial)[:, 0], 0.9)
        hits += found.low <= 0.3 <= found.high
    assert 0.84 <= hits / 300 <= 0.95  # 90 % +- 3.5 standard errors, the small-sample shortfall included


def test_no_users_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one user"):
        bootstrap_means(np.empty((2, 0)), 100, seed=0)

"""The bootstrap against theory, scipy and its own promises."""

import numpy as np
import pytest
from scipy import stats

from components.evaluate import comparison
from components.evaluate.comparison import holm, interval, p_value, resampled_means


def test_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=(1, 200))
    ours = interval(resampled_means(values, 20_000, seed=1)[0], 0.95)
    theirs = stats.bootstrap(
        values, np.mean, n_resamples=20_000, method="percentile", vectorized=True, rng=2
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)


def test_interval_of_a_mean_agrees_with_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=(1, 400))
    found = interval(resampled_means(values, 4000, seed=0)[0], 0.95)
    half = 1.96 * values.std() / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_comparators_are_resampled_with_the_same_users() -> None:
    first = np.random.default_rng(0).random(50)
    means = resampled_means(np.stack([first, first + 0.25]), 500, seed=0)
    np.testing.assert_allclose(means[1] - means[0], 0.25)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(9)
    hits = 0
    for trial in range(300):
        values = generator.random((1, 60)) < 0.3
        found = interval(resampled_means(values.astype(float), 400, seed=trial)[0], 0.9)
        hits += found.low <= 0.3 <= found.high
    assert 0.84 <= hits / 300 <= 0.95  # 90 % +- 3.5 standard errors, the small-sample shortfall included


def test_no_users_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one user"):
        resampled_means(np.empty((2, 0)), 100, seed=0)


def test_means_are_those_of_the_drawn_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_BLOCK_BYTES", 8 * 30 * 7)  # seven resamples at a time
    values = np.random.default_rng(4).random((2, 3, 30))
    generator = np.random.default_rng(5)
    expected = [values[..., generator.integers(0, 30, 30)].mean(-1) for _ in range(100)]
    np.testing.assert_allclose(resampled_means(values, 100, seed=5), np.stack(expected, -1), atol=1e-12)


def test_p_values_of_the_truth_are_uniform_and_of_a_difference_small() -> None:
    generator = np.random.default_rng(6)
    found = [p_value(resampled_means(generator.normal(0, 1, (1, 80)), 400, seed=i)[0]) for i in range(300)]
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.09
    assert p_value(resampled_means(np.ones((1, 80)), 400, seed=0)[0]) == pytest.approx(2 / 401)


def test_holm_by_hand() -> None:
    # 0.01 * 4; 0.02 * 3; then 0.03 * 2 does not fall below the one before; 0.9 stays.
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]

import numpy as np
import pytest

from components.retrieve.blend.features import Pool
from components.retrieve.blend.logit import Examples, fit


def drawn(weights: list[float], pools: int, seed: int = 0) -> Examples:
    """Return pools of 3 to 6 items with labels drawn by the softmax of the weighted features."""
    generator = np.random.default_rng(seed)
    items = np.where(np.arange(6) < generator.integers(3, 7, size=(pools, 1)), np.arange(6), -1)
    features = generator.normal(size=(pools, 6, len(weights))).astype(np.float32)
    scores = np.where(items < 0, -np.inf, features @ np.array(weights) + generator.gumbel(size=items.shape))
    return Examples.of(Pool(items, features), scores.argmax(1))


def test_the_weights_that_drew_the_labels_are_found() -> None:
    assert fit([drawn([1.0, -2.0, 0.0], 20_000)], 3, l2=0.0) == pytest.approx([1.0, -2.0, 0.0], abs=0.06)


def test_several_parts_are_learnt_from_as_one() -> None:
    whole = drawn([1.0, -1.0], 300)
    parts = [drawn([1.0, -1.0], 300), drawn([1.0, -1.0], 300)]
    assert fit(parts, 2, l2=0.02) == pytest.approx(fit([whole], 2, l2=0.01), abs=1e-4)


def test_only_pools_with_their_label_are_examples() -> None:
    pool = Pool(np.array([[4, 7, -1], [5, 6, 7]]), np.arange(6, dtype=np.float32).reshape(2, 3, 1))
    found = Examples.of(pool, np.array([9, 6]))
    assert found.features.ravel().tolist() == [3, 4, 5]
    assert (found.start.tolist(), found.labels.tolist()) == ([0], [1])


def test_a_constant_feature_gets_no_weight() -> None:
    examples = drawn([1.0, 0.0], 500)
    examples.features[:, 1] = 7.0
    assert fit([examples], 2, l2=1.0)[1] == 0.0


def test_a_penalty_draws_the_weights_to_the_first_models_order() -> None:
    examples = [drawn([2.0, 1.0], 2000)]
    assert fit(examples, 2, l2=0.0) == pytest.approx([2.0, 1.0], abs=0.2)
    assert fit(examples, 2, l2=1e6) == pytest.approx([1.0, 0.0], abs=0.02)


def test_without_examples_the_first_model_decides(caplog) -> None:
    nothing = Examples.of(Pool(np.zeros((0, 0), np.int64), np.zeros((0, 0, 2), np.float32)), np.zeros(0))
    with caplog.at_level("WARNING"):
        assert [fit(parts, 2, l2=1.0).tolist() for parts in ([], [nothing])] == [[1, 0], [1, 0]]
    assert "the order is that of the first model" in caplog.text

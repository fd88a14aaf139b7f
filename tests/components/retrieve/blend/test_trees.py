import numpy as np

from components.retrieve.blend import logit
from components.retrieve.blend.features import Pool
from components.retrieve.blend.logit import Examples
from components.retrieve.blend.recommender import learn, learn_trees, rank
from components.retrieve.blend.trees import BEST, Trees, fit


def drawn(pools: int, seed: int, width: int = 130) -> tuple[Pool, np.ndarray]:
    """Return pools and labels that depend on |x|, which no logit of x can tell, and on a second feature."""
    generator = np.random.default_rng(seed)
    items = np.where(np.arange(width) < generator.integers(3, width + 1, (pools, 1)), np.arange(width), -1)
    features = generator.normal(size=(pools, width, 2)).astype(np.float32)
    utility = 2.5 * np.abs(features[..., 0]) + features[..., 1] + generator.gumbel(size=items.shape)
    return Pool(items, features), np.where(items < 0, -np.inf, utility).argmax(1)


def hit_rate(pool: Pool, labels: np.ndarray, weights: np.ndarray, trees: Trees | None) -> float:
    return float((rank(pool, weights, 3, trees).items == labels[:, None]).any(1).mean())


def test_trees_learn_what_a_logit_cannot() -> None:
    parts = [Examples.of(*drawn(1500, seed)) for seed in (0, 1)]
    weights = logit.fit(parts, 2, l2=0.0)
    trees = fit(parts, weights, seed=0)
    pool, labels = drawn(1500, 9)
    assert hit_rate(pool, labels, weights, trees) > 1.2 * hit_rate(pool, labels, weights, None)


def test_only_the_first_items_get_a_new_order() -> None:
    parts = [Examples.of(*drawn(400, 0))]
    weights = logit.fit(parts, 2, l2=0.0)
    pool, _ = drawn(50, 1)
    plain, ordered = (rank(pool, weights, 140, trees) for trees in (None, fit(parts, weights, seed=0)))
    assert (plain.items != ordered.items).any()
    for before, after in zip(plain.items, ordered.items, strict=True):
        assert sorted(before[:BEST]) == sorted(after[:BEST])
        assert before[BEST:].tolist() == after[BEST:].tolist()
    listed = np.where(ordered.items >= 0, ordered.scores, -np.inf)
    assert (listed[:, 1:] <= listed[:, :-1]).all()
    assert ((ordered.items < 0) == (ordered.scores == -np.inf)).all()


def test_trees_are_the_same_again_and_from_their_text() -> None:
    parts = [Examples.of(*drawn(300, seed)) for seed in (0, 1)]
    weights = learn(parts, 2, l2=1.0)
    once, again = (learn_trees(parts, weights, seed=3) for _ in range(2))
    assert [trees.text for trees in once] == [trees.text for trees in again]
    assert len({trees.text for trees in once}) == 3  # without either fold, and from both
    pool, _ = drawn(20, 5)
    lists = [rank(pool, weights[-1], 10, trees) for trees in (once[-1], Trees(once[-1].text))]
    assert lists[0].scores.tolist() == lists[1].scores.tolist()


def test_without_examples_there_are_no_trees() -> None:
    nothing = Pool(np.zeros((0, 0), np.int64), np.zeros((0, 0, 2), np.float32))
    for parts in ([], [Examples.of(nothing, np.zeros(0, np.int64))]):
        assert fit(parts, np.array([1.0, 0.0]), seed=0) is None


def test_too_few_examples_to_split_keep_the_logits_order() -> None:
    assert fit([Examples.of(*drawn(5, 0, width=60))], np.ones(2), seed=0) is None


def test_pools_without_an_item_are_ranked() -> None:
    trees = fit([Examples.of(*drawn(300, 0))], np.ones(2), seed=0)
    for width in (0, 2):
        empty = Pool(np.full((3, width), -1), np.zeros((3, width, 2), np.float32))
        assert (rank(empty, np.ones(2), 5, trees).items == -1).all()

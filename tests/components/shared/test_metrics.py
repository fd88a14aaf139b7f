"""Metrics against arithmetic by hand, ranx, scikit-learn and sums over single lists."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranx import Qrels, Run, evaluate
from sklearn.metrics import ndcg_score

from components.shared import metrics
from components.shared.metrics import TagSets, judge, numbered

K = (1, 3, 5, 10, 15)
RANX = {
    "recall": "recall",
    "hit_rate": "hit_rate",
    "ndcg": "ndcg",
    "mrr": "reciprocal_rank",
    "map": "average_precision",
}


def lists(rows: list[list[int]]) -> np.ndarray:
    return metrics.padded(rows, -1)


def test_one_label_at_rank_three() -> None:
    judged = judge(*numbered(["abcd"], ["c"]))
    assert [judged.recall(k)[0] for k in (2, 3)] == [judged.hit_rate(k)[0] for k in (2, 3)] == [0.0, 1.0]
    assert judged.ndcg(3)[0] == pytest.approx(1 / math.log2(4))
    assert [judged.reciprocal_rank(k)[0] for k in (2, 3)] == [0.0, 1 / 3]
    assert judged.average_precision(10)[0] == pytest.approx(1 / 3)


def test_recall_and_map_count_all_labels() -> None:
    """Three labels, two found at ranks 1 and 3: recall@2 has the denominator 3, also for k below it."""
    judged = judge(*numbered(["axb"], ["abc"]))
    assert judged.recall(2)[0] == pytest.approx(1 / 3)
    assert judged.average_precision(3)[0] == pytest.approx((1 + 2 / 3) / 3)
    assert judged.ndcg(2)[0] == pytest.approx(1 / (1 + 1 / math.log2(3)))  # the ideal fills two ranks


@pytest.mark.parametrize(
    ("ranked", "labels"), [("abc", ""), ("", "a"), ("", "")], ids=["no label", "no list", "nothing"]
)
def test_nothing_to_find_gives_zero(ranked: str, labels: str) -> None:
    judged = judge(*numbered([ranked, "q"], [labels, "qr"]))
    for name in RANX.values():
        assert getattr(judged, name)(10)[0] == 0.0
        assert getattr(judged, name)(10)[1] > 0.0


@settings(max_examples=300)
@given(
    st.lists(st.integers(0, 6), max_size=12),
    st.lists(st.integers(0, 6), max_size=5),
    st.integers(1, 12),
)
def test_repeats_never_leave_the_unit_interval(ranked: list[int], labels: list[int], k: int) -> None:
    judged = judge(lists([ranked]), lists([labels]))
    once = judge(lists([list(dict.fromkeys(ranked))]), lists([sorted(set(labels))]))
    for name in RANX.values():
        assert 0.0 <= getattr(judged, name)(k)[0] <= getattr(once, name)(k)[0] <= 1.0


@pytest.mark.slow  # ranx compiles its metrics first
def test_equal_to_ranx_on_ten_thousand_lists() -> None:
    rng = np.random.default_rng(0)
    ranked = [rng.permutation(40)[: rng.integers(1, 20)].tolist() for _ in range(10_000)]
    labels = [rng.permutation(40)[: rng.integers(1, 7)].tolist() for _ in ranked]
    gains = [rng.integers(1, 6, len(items)).tolist() for items in labels]
    names = [f"u{user:05d}" for user in range(len(ranked))]
    run = Run(
        {u: {str(i): 1.0 / r for r, i in enumerate(items, 1)} for u, items in zip(names, ranked, strict=True)}
    )
    for graded in (False, True):
        weights = gains if graded else [[1] * len(items) for items in labels]
        qrels = Qrels(
            {
                u: dict(zip(map(str, items), given, strict=True))
                for u, items, given in zip(names, labels, weights, strict=True)
            }
        )
        judged = judge(lists(ranked), lists(labels), metrics.padded(weights, 0.0))
        chosen = ["ndcg"] if graded else list(RANX)
        theirs = evaluate(qrels, run, [f"{name}@{k}" for name in chosen for k in K], return_mean=False)
        for name in chosen:
            for k in K:
                ours = getattr(judged, RANX[name])(k)
                np.testing.assert_allclose(ours, theirs[f"{name}@{k}"], atol=1e-9, err_msg=f"{name}@{k}")


@pytest.mark.slow  # scikit-learn takes the lists one by one
def test_graded_ndcg_equals_scikit_learn_on_ten_thousand_lists() -> None:
    rng = np.random.default_rng(1)
    ranked = np.stack([rng.permutation(20) for _ in range(10_000)])
    labels = np.stack([rng.permutation(20)[:6] for _ in ranked])
    gains = rng.integers(1, 6, labels.shape).astype(float)
    relevance = np.zeros(ranked.shape)
    np.put_along_axis(relevance, labels, gains, 1)
    scores = np.zeros(ranked.shape)
    np.put_along_axis(scores, ranked, np.arange(20.0, 0, -1)[None], 1)
    theirs = [ndcg_score([one], [given], k=10) for one, given in zip(relevance, scores, strict=True)]
    np.testing.assert_allclose(judge(ranked, labels, gains).ndcg(10), theirs, atol=1e-9)


def test_ilad_is_the_mean_jaccard_distance() -> None:
    tags = TagSets.of([{"a"}, {"a", "b"}, {"c"}, set(), set()])
    # {a} and {a, b}: 1 - 1/2; {a} and {c}: 1; {a, b} and {c}: 1
    found = metrics.ilad(lists([[0, 1, 2], [3, 4], [0], [], [2, 3, 0]]), tags)
    assert found == pytest.approx([(0.5 + 1 + 1) / 3, 0.0, 0.0, 0.0, 1.0])
    assert metrics.set_ilad([{"a"}, {"a", "b"}, {"c"}]) == pytest.approx(2.5 / 3)
    assert metrics.set_ilad([]) == metrics.set_ilad([{"x"}]) == metrics.set_ilad([set(), set()]) == 0.0


def test_ilad_equals_sums_over_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_BLOCK", 7)
    rng = np.random.default_rng(2)
    sets = [{f"t{t}" for t in rng.integers(0, 9, rng.integers(0, 6))} for _ in range(30)]
    vectors = rng.normal(size=(30, 5))
    vectors[3] = 0
    rows = [rng.permutation(30)[: rng.integers(0, 9)].tolist() for _ in range(50)]

    def jaccard(a: int, b: int) -> float:
        return 1 - len(sets[a] & sets[b]) / len(sets[a] | sets[b]) if sets[a] | sets[b] else 0.0

    def cosine(a: int, b: int) -> float:
        size = np.linalg.norm(vectors[a]) * np.linalg.norm(vectors[b])
        return 1 - vectors[a] @ vectors[b] / size if size else 1.0

    for found, distance in (
        (metrics.ilad(lists(rows), TagSets.of(sets)), jaccard),
        (metrics.ilad_of_vectors(lists(rows), vectors), cosine),
    ):
        expected = [np.mean([distance(a, b) for a, b in combinations(row, 2)] or [0.0]) for row in rows]
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_self_information_is_smoothed() -> None:
    assert metrics.self_information(0, 6, 2) == pytest.approx(3.0)  # 1 / 8
    assert metrics.self_information(3, 6, 2) == pytest.approx(1.0)  # 4 / 8


def test_means_coverage_and_gini_of_lists() -> None:
    rows = lists([[0, 1], [1], []])
    assert metrics.list_mean(rows, np.array([1.0, 3.0, 9.0])).tolist() == [2.0, 3.0, 0.0]
    assert metrics.coverage(rows, 4) == 0.5
    assert metrics.gini(lists([[0, 1], [2, 3]]), 4) == 0.0
    assert metrics.gini(lists([[0], [0]]), 4) == pytest.approx(3 / 4)  # 1 - 1/items: one item alone
    assert metrics.gini(lists([[]]), 4) == metrics.mean([]) == 0.0


def test_gini_is_the_mean_difference_of_exposures() -> None:
    """Half of the relative mean absolute difference, over all pairs of items."""
    shown = np.random.default_rng(3).integers(0, 8, (40, 5)) ** 2 // 7
    counts = np.bincount(shown.ravel(), minlength=9)
    differences = np.abs(counts[:, None] - counts[None, :]).mean()
    assert metrics.gini(shown, 9) == pytest.approx(differences / (2 * counts.mean()))

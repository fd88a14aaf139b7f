"""Metrics against arithmetic by hand and against ranx."""

import math

import numpy as np
import pytest
from ranx import Qrels, Run, evaluate
from sklearn.metrics import ndcg_score

from components.shared.metrics import ilad, mean, ndcg_at_k, recall_at_k, self_information


def test_one_label_at_rank_three() -> None:
    ranked = ["a", "b", "c", "d"]
    assert recall_at_k(ranked, {"c"}, 2) == 0.0
    assert recall_at_k(ranked, {"c"}, 3) == 1.0
    assert ndcg_at_k(ranked, {"c"}, 3) == pytest.approx(1 / math.log2(4))


def test_nothing_relevant_gives_zero() -> None:
    assert recall_at_k(["a"], set(), 5) == ndcg_at_k(["a"], set(), 5) == 0.0
    assert mean([]) == ilad([]) == ilad([{"x"}]) == 0.0


def test_equal_to_ranx_on_random_rankings() -> None:
    rng = np.random.default_rng(0)
    users = {f"u{u}": rng.permutation(30) for u in range(40)}
    labels = {u: {str(i) for i in rng.choice(30, rng.integers(1, 6), replace=False)} for u in users}
    qrels = Qrels({u: dict.fromkeys(items, 1) for u, items in labels.items()})
    run = Run({u: {str(i): 30.0 - rank for rank, i in enumerate(order)} for u, order in users.items()})
    theirs = evaluate(qrels, run, ["recall@5", "recall@10", "ndcg@5", "ndcg@10"])
    for k in (5, 10):
        ranked = {u: [str(i) for i in order] for u, order in users.items()}
        assert mean([recall_at_k(ranked[u], labels[u], k) for u in users]) == pytest.approx(
            theirs[f"recall@{k}"]
        )
        assert mean([ndcg_at_k(ranked[u], labels[u], k) for u in users]) == pytest.approx(theirs[f"ndcg@{k}"])


def test_graded_ndcg_equals_ranx_and_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    for k in (3, 10):
        ranked = [str(i) for i in rng.permutation(20)]
        gains = {str(i): int(rng.integers(1, 6)) for i in rng.choice(20, 6, replace=False)}
        run = Run({"u": {item: 20.0 - rank for rank, item in enumerate(ranked)}})
        mine = ndcg_at_k(ranked, {item: float(gain) for item, gain in gains.items()}, k)
        assert mine == pytest.approx(evaluate(Qrels({"u": gains}), run, f"ndcg@{k}"))
        relevance = [[gains.get(item, 0) for item in ranked]]
        assert mine == pytest.approx(ndcg_score(relevance, [list(range(20, 0, -1))], k=k))
        assert ndcg_at_k(ranked, dict.fromkeys(gains, 1.0), k) == ndcg_at_k(ranked, set(gains), k)


def test_ilad_is_the_mean_jaccard_distance() -> None:
    # {a} and {a, b}: 1 - 1/2; {a} and {c}: 1; {a, b} and {c}: 1
    assert ilad([{"a"}, {"a", "b"}, {"c"}]) == pytest.approx((0.5 + 1 + 1) / 3)
    assert ilad([set(), set()]) == 0.0


def test_self_information_is_smoothed() -> None:
    assert self_information(0, 6, 2) == pytest.approx(3.0)  # 1 / 8
    assert self_information(3, 6, 2) == pytest.approx(1.0)  # 4 / 8

"""Measure the metrics of a million lists beside ranx, and the paired bootstrap of 100,000 users.

    python tests/benchmarks/metrics.py

Lists of ten items, one to five labels each, both as arrays; ranx is called once before, so that its
compilation is not counted. Metrics are equal to 1e-9, or the benchmark fails. Prints medians of the repeats,
one engine after the other in each. `--lists` and `--users` take other sizes.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import ranx

from components.evaluate.comparison import resampled_means
from components.shared import metrics

ITEMS, DEPTH, LABELS = 5_000, 10, 5
NAMES = ("recall", "ndcg", "mrr", "map", "hit_rate")


def lists(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ranked items [list, 10] and labels [list, 5], -1 where a list has fewer."""
    generator = np.random.default_rng(0)
    # Steps from a random start: no list repeats an item, and some labels are met.
    start = generator.integers(0, ITEMS, (count, 1))
    ranked = (start + np.cumsum(generator.integers(1, 9, (count, DEPTH)), axis=1)) % ITEMS
    labels = (start + np.cumsum(generator.integers(1, 17, (count, LABELS)), axis=1)) % ITEMS
    labels[np.arange(LABELS) >= generator.integers(1, LABELS + 1, (count, 1))] = -1
    return ranked, labels


def ours(ranked: np.ndarray, labels: np.ndarray) -> list[float]:
    """Return the means of NAMES at 10."""
    judged = metrics.judge(ranked, labels)
    found = judged.recall, judged.ndcg, judged.reciprocal_rank, judged.average_precision, judged.hit_rate
    return [float(metric(DEPTH).mean()) for metric in found]


def theirs(ranked: np.ndarray, labels: np.ndarray) -> list[float]:
    """Return ranx's, from its own form of both: pairs of item and score or gain."""
    run = np.stack([ranked.astype(float), np.broadcast_to(1 / np.arange(1.0, DEPTH + 1), ranked.shape)], 2)
    # ranx counts what has gain 1 or more; an id of its own for every place that is empty.
    empty = -1.0 - np.arange(LABELS)
    qrels = np.stack([np.where(labels >= 0, labels, empty), (labels >= 0).astype(float)], 2)
    found = ranx.evaluate(qrels, run, [f"{name}@{DEPTH}" for name in NAMES])
    return [found[f"{name}@{DEPTH}"] for name in NAMES]


def bootstrap(users: int) -> None:
    """Compute the resampled means of ten comparators."""
    resampled_means(np.random.default_rng(1).random((10, users)), samples=2_000, seed=0)


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    ranked, labels = lists(options.lists)
    np.testing.assert_allclose(ours(ranked, labels), theirs(ranked, labels), atol=1e-9)
    taken: dict[str, list[float]] = {"ours": [], "ranx": []}
    for _ in range(options.repeats):
        taken["ours"].append(seconds(lambda: ours(ranked, labels)))
        taken["ranx"].append(seconds(lambda: theirs(ranked, labels)))
    mine, other = (statistics.median(taken[name]) for name in ("ours", "ranx"))
    print(f"{options.lists:,} lists, {', '.join(NAMES)} at {DEPTH}: seconds (median of {options.repeats})")
    print(f"ours {mine:.2f}, ranx {other:.2f}: ratio {other / mine:.2f}")
    took = seconds(lambda: bootstrap(options.users))
    print(f"2,000 resamples of {options.users:,} users x 10 comparators: {took:.1f} s")


if __name__ == "__main__":
    main()

"""Ranking metrics; ranked lists are best first, ranks start at 1.

Definitions: Recall and NDCG as in Järvelin & Kekäläinen 2002 with linear gains (equal to ranx's);
ILAD as in Zhang & Hurley 2008; novelty as self-information, Zhou et al. 2010.
"""

import math
from collections.abc import Hashable, Mapping, Sequence, Set

Item = Hashable


def recall_at_k(ranked: Sequence[Item], relevant: Set[Item], k: int) -> float:
    """Return the share of `relevant` among the first k; 0 if `relevant` is empty."""
    if not relevant:
        return 0.0
    return len(relevant & set(ranked[:k])) / len(relevant)


def ndcg_at_k(ranked: Sequence[Item], relevant: Set[Item] | Mapping[Item, float], k: int) -> float:
    """Return DCG@k / ideal DCG@k, an item counting gain/log2(rank + 1). In [0, 1].

    `relevant` maps items to gains (not negative); items of a set have gain 1. Without any gain 0.

    >>> ndcg_at_k(["tea", "jazz"], {"tea": 3.0, "chess": 1.0}, k=10)
    0.826...
    """
    gains = relevant if isinstance(relevant, Mapping) else dict.fromkeys(relevant, 1.0)
    gained = sum(
        gains[item] / math.log2(rank + 1) for rank, item in enumerate(ranked[:k], 1) if item in gains
    )
    best = sorted(gains.values(), reverse=True)[:k]
    ideal = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(best, 1))
    return gained / ideal if ideal else 0.0


def ilad(tags: Sequence[Set[str]]) -> float:
    """Return the mean pairwise Jaccard distance of the listed items' tag sets (intra-list diversity).

    In [0, 1]; fewer than two items give 0. Two items without any tag are at distance 0.
    """
    pairs = [(a, b) for i, a in enumerate(tags) for b in tags[i + 1 :]]
    if not pairs:
        return 0.0
    return sum(1 - len(a & b) / len(a | b) if a | b else 0.0 for a, b in pairs) / len(pairs)


def self_information(count: int, total: int, items: int) -> float:
    """Return -log2 of the item's smoothed share of the training interactions, in bits.

    Laplace smoothing (one pseudo-interaction per item) keeps unseen items finite.
    """
    return -math.log2((count + 1) / (total + items))


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean; 0 for no values."""
    return sum(values) / len(values) if values else 0.0

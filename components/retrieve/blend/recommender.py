"""The blend: item features of a pool, weighed by a learnt logit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.retrieve.blend import logit
from components.retrieve.blend.features import ItemSide, pool_features
from components.retrieve.blend.logit import Examples
from components.retrieve.interactions import Histories, Interactions, Ints, Queries
from components.retrieve.ranking import RankedLists, Recommender

PARTITION = 2048
"""Users whose features are held at a time."""


@dataclass(frozen=True)
class Blend(Recommender):
    """Ranks the `size` best items of each model by `weights` over the first of their features."""

    data: Interactions
    side: ItemSide
    weights: npt.NDArray[np.float64]
    size: int

    def recommend(self, queries: Queries, depth: int) -> RankedLists:
        """Return at most `depth` items of each pool; empty lists for empty histories."""
        lists = RankedLists.empty(len(queries), depth)
        known = np.flatnonzero(queries.histories.lengths > 0)
        for start in range(0, len(known), PARTITION):
            rows = known[start : start + PARTITION]
            part = queries.take(rows)
            times = self.data.query_times(part)
            best = rank(self.side, self.weights, part.histories, times, self.size, depth)
            lists.items[rows], lists.scores[rows] = best.items, best.scores
        return lists


def rank(
    side: ItemSide, weights: npt.NDArray[np.float64], histories: Histories, times: Ints, size: int, depth: int
) -> RankedLists:
    """Return the best `depth` items for each history at `times` (microseconds), ties by item index."""
    pool = pool_features(side, histories, times, size)
    scores = (pool.features[..., : len(weights)] @ weights).astype(np.float32)
    return RankedLists.best(pool.items, np.where(pool.items < 0, -np.inf, scores), depth)


def examples(data: Interactions, side: ItemSide, queries: Queries, size: int) -> Examples:
    """Return the pools of `queries`, with one label each, that hold it."""
    parts = []
    for start in range(0, max(1, len(queries)), PARTITION):
        part = queries.take(slice(start, start + PARTITION))
        pool = pool_features(side, part.histories, data.query_times(part), size)
        parts.append(Examples.of(pool, part.labels.items[part.labels.start]))
    return Examples.join(parts)


def learn(parts: Sequence[Examples], features: int, l2: float) -> list[npt.NDArray[np.float64]]:
    """Return weights per fold, learnt from all other folds' examples, and last those learnt from all."""
    others = [[part for fold, part in enumerate(parts) if fold != left_out] for left_out in range(len(parts))]
    return [logit.fit(chosen, features, l2) for chosen in (*others, parts)]

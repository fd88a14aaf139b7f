"""The blends: item features of a pool, weighed by a learnt logit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from components.retrieve.blend import logit
from components.retrieve.blend.features import ItemSide, Pool, pool_features
from components.retrieve.blend.logit import Examples, Floats
from components.retrieve.interactions import Interactions, Queries
from components.retrieve.ranking import RankedLists, Recommender

PARTITION = 2048
"""Users whose features are held at a time."""


@dataclass
class Blends:
    """Blends that differ in their weights alone, ranked in one pass over the features.

    Each ranks the `size` best items of each model by its weights over the first features.
    """

    data: Interactions
    side: ItemSide
    weights: Mapping[str, Floats]
    size: int
    recent: dict[tuple, dict[str, RankedLists]] = field(default_factory=dict)

    def lists(self, queries: Queries, depth: int) -> dict[str, RankedLists]:
        """Return each blend's lists; those of the two latest calls are kept."""
        key = (depth, queries.users.tobytes(), queries.position.tobytes())
        if key not in self.recent:
            self.recent = dict([*self.recent.items()][-1:]) | {key: self._rank(queries, depth)}
        return self.recent[key]

    def _rank(self, queries: Queries, depth: int) -> dict[str, RankedLists]:
        lists = {name: RankedLists.empty(len(queries), depth) for name in self.weights}
        known = np.flatnonzero(queries.histories.lengths > 0)
        for start in range(0, len(known), PARTITION):
            rows = known[start : start + PARTITION]
            part = queries.take(rows)
            pool = pool_features(self.side, part.histories, self.data.query_times(part), self.size)
            for name, weights in self.weights.items():
                best = rank(pool, weights, depth)
                lists[name].items[rows], lists[name].scores[rows] = best.items, best.scores
        return lists


@dataclass(frozen=True)
class Blend(Recommender):
    """One of `blends`."""

    blends: Blends
    name: str

    def recommend(self, queries: Queries, depth: int) -> RankedLists:
        """Return at most `depth` items of each pool; empty lists for empty histories."""
        return self.blends.lists(queries, depth)[self.name]


def rank(pool: Pool, weights: Floats, depth: int) -> RankedLists:
    """Return each row's best `depth` items by `weights` of the first features."""
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


def learn(parts: Sequence[Examples], features: int, l2: float) -> list[Floats]:
    """Return weights per fold, learnt from the other folds, and last from all."""
    others = [[part for fold, part in enumerate(parts) if fold != left_out] for left_out in range(len(parts))]
    return [logit.fit(chosen, features, l2) for chosen in (*others, parts)]

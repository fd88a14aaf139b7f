"""The blends: item features of a pool, weighed by a learnt logit, or by boosted trees after it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from components.retrieve.blend import logit, trees
from components.retrieve.blend.features import ItemSide, Pool, pool_features
from components.retrieve.blend.logit import Examples, Floats
from components.retrieve.blend.trees import Trees
from components.retrieve.interactions import Queries
from components.retrieve.ranking import RankedLists, Recommender

PARTITION = 2048
"""Users whose features are held at a time."""


@dataclass
class Blends:
    """Blends that differ in their weights alone, ranked in one pass over the features.

    Each ranks the `size` best items of each model by its weights over the first features, and by its trees
    where it has some.
    """

    side: ItemSide
    weights: Mapping[str, Floats]
    size: int
    trees: Mapping[str, Trees] = field(default_factory=dict)
    latest: tuple[Queries, int, dict[str, RankedLists]] | None = None

    def lists(self, queries: Queries, depth: int) -> dict[str, RankedLists]:
        """Return each blend's lists; asked again for the same object, those of the latest call."""
        if not self.latest or self.latest[0] is not queries or self.latest[1] != depth:
            self.latest = queries, depth, self._rank(queries, depth)
        return self.latest[2]

    def _rank(self, queries: Queries, depth: int) -> dict[str, RankedLists]:
        lists = {name: RankedLists.empty(len(queries), depth) for name in self.weights}
        known = np.flatnonzero(queries.histories.lengths > 0)
        for start in range(0, len(known), PARTITION):
            rows = known[start : start + PARTITION]
            part = queries.take(rows)
            pool = pool_features(self.side, part.histories, part.times, self.size)
            for name, weights in self.weights.items():
                best = rank(pool, weights, depth, self.trees.get(name))
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


def rank(pool: Pool, weights: Floats, depth: int, trees: Trees | None = None) -> RankedLists:
    """Return each row's best `depth` items by `weights` of the first features, then by `trees`."""
    scores = (pool.features[..., : len(weights)] @ weights).astype(np.float32)
    scores[pool.items < 0] = -np.inf
    if trees:
        scores = trees.rescored(pool, scores, len(weights))
    return RankedLists.best(pool.items, scores, depth)


def examples(side: ItemSide, queries: Queries, size: int) -> Examples:
    """Return the pools of `queries`, with one label each, that hold it."""
    parts = []
    for start in range(0, max(1, len(queries)), PARTITION):
        part = queries.take(slice(start, start + PARTITION))
        pool = pool_features(side, part.histories, part.times, size)
        parts.append(Examples.of(pool, part.labels.items[part.labels.start]))
    return Examples.join(parts)


def learn(parts: Sequence[Examples], features: int, l2: float) -> list[Floats]:
    """Return weights per fold, learnt from the other folds, and last from all."""
    return [logit.fit(chosen, features, l2) for chosen in _others(parts)]


def learn_trees(parts: Sequence[Examples], weights: Sequence[Floats], seed: int) -> list[Trees | None]:
    """Return trees after each of the first `weights` of `learn`, from the same folds."""
    return [
        trees.fit(chosen, of_logit, seed) for chosen, of_logit in zip(_others(parts), weights, strict=False)
    ]


def _others(parts: Sequence[Examples]) -> list[Sequence[Examples]]:
    """Return per fold the parts of the other folds, and last all parts."""
    others = [[part for fold, part in enumerate(parts) if fold != left_out] for left_out in range(len(parts))]
    return [*others, parts]

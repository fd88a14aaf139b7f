"""Models trained on some of the users, and the candidates made of their rankings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.retrieve.blend.counts import co_occurrences
from components.retrieve.blend.features import ItemSide
from components.retrieve.blend.logit import Floats
from components.retrieve.blend.recommender import Blend, Blends
from components.retrieve.blend.sales import Sales
from components.retrieve.candidates.exposures import Exposures
from components.retrieve.candidates.new_items import NewItems
from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import Interactions, Ints, Queries
from components.retrieve.models import factory
from components.retrieve.models.popularity import SegmentPopularity, item_counts
from components.retrieve.ranking import RankedLists, Recommender, Scorer
from components.retrieve.report import CEILINGS
from data_contracts.evaluation import ONLINE

FUSION_CONSTANT = 60
"""Added to ranks, as in Cormack, Clarke & Büttcher 2009."""


@dataclass(frozen=True)
class RetrievalContext:
    """What all generators of a run share; `segments` [users], exposures if they are used."""

    config: RetrieveConfig
    data: Interactions
    segments: Ints
    exposures: Exposures | None
    checkpoint_dir: Path

    @property
    def depth(self) -> int:
        """Items per ranked list."""
        depth = max(self.config.ranking_depth, self.config.num_candidates, *CEILINGS)
        return min(depth, self.data.num_items)


@dataclass(frozen=True)
class Candidates:
    """Ranked candidates of prompts; how many popularity filled in, how many are new."""

    queries: Queries
    lists: RankedLists
    filled: int
    new: int


class CandidateGenerator:
    """Models trained on the train part of `users`; `fold` is held out (-1: none)."""

    def __init__(self, context: RetrievalContext, users: Ints, fold: int) -> None:
        self.context, self.config, self.fold = context, context.config, fold
        data = context.data
        self.users = users
        self.train_part, valid = data.train(users), data.queries("valid")
        self.valid = valid.take(np.isin(valid.users, users))
        self.fallback = SegmentPopularity(self.train_part, users, context.segments, data.num_items)
        self.is_new = item_counts(self.train_part, data.num_items) == 0
        self.new_items: NewItems | None = None
        if self.config.new_item_slots and self.is_new.any():
            content = factory.content(self.config, data, self.train_part, context.checkpoint_dir)
            self.new_items = NewItems(data, content, self.is_new)
        self._fitted: dict[str, tuple[Recommender, float]] = {}
        if context.exposures:
            self._fitted[ONLINE] = context.exposures, 0.0

    def fit(self, name: str) -> tuple[Recommender, float]:
        """Return model `name`, trained at the first call, and the seconds that this took."""
        if name not in self._fitted:
            parts = (self.train_part, self.valid, self.fold, self.context.checkpoint_dir)
            recommender, log = factory.fit(name, self.config, self.context.data, *parts)
            self._fitted[name] = recommender, log.seconds
        return self._fitted[name]

    def item_side(self) -> ItemSide:
        """Return what the blend's features need of these users' train part."""
        config, data, train = self.config, self.context.data, self.train_part
        models = {name: self.fit(name)[0] for name in config.blend.models}
        return ItemSide(
            models={name: model for name, model in models.items() if isinstance(model, Scorer)},
            vectors=factory.text_vectors(config, data, self.context.checkpoint_dir).numpy(),
            brands=data.brands,
            categories=data.categories,
            counts=co_occurrences(train, data.num_items),
            popularity=item_counts(train, data.num_items),
            sales=Sales.of(train.flat()[1], data.train_times(self.users)),
        )

    def add_blends(self, side: ItemSide, weights: Mapping[str, Floats], seconds: float) -> None:
        """Let `fit` return a blend per name and learnt weights, which took `seconds`."""
        blends = Blends(self.context.data, side, weights, self.config.blend.pool)
        self._fitted |= {name: (Blend(blends, name), seconds) for name in weights}

    def fill(self, lists: RankedLists, queries: Queries) -> RankedLists:
        """Return `lists`, short ones filled with what is popular in the user's segment."""
        rows = np.flatnonzero((lists.items[:, : self.config.num_candidates] < 0).any(1))
        popular = self.fallback.recommend(queries.take(rows), lists.items.shape[1])
        items, scores = lists.items.copy(), lists.scores.copy()
        for row, more, more_scores in zip(rows, popular.items, popular.scores, strict=True):
            count = np.count_nonzero(items[row] >= 0)
            more = more[~np.isin(more, [*items[row, :count], -1])][: items.shape[1] - count]
            end = count + len(more)
            items[row, count:end] = more
            scores[row, count:end] = scores[row, count - 1] if count else more_scores[: len(more)]
        return RankedLists(items, scores)

    def candidates(self, queries: Queries) -> Candidates:
        """Return the fused lists of the candidates' models, short ones filled, with new items inserted."""
        config, wanted = self.config, self.config.num_candidates
        models = [self.fit(name)[0] for name in config.sources]
        rankings = [model.recommend(queries, self.context.depth) for model in models]
        ranked = rankings[0]
        if len(rankings) > 1:
            ranked = fuse(rankings, [model.vote_threshold for model in models], self.context.depth)
        lists = self.fill(ranked, queries)
        filled = (lists.items[:, :wanted] >= 0).sum() - (ranked.items[:, :wanted] >= 0).sum()
        if self.new_items:
            lists = self.new_items.insert(lists, queries, config.new_item_slots, wanted)
        items = lists.items[:, :wanted]
        return Candidates(queries, lists, int(filled), int((self.is_new[items] & (items >= 0)).sum()))


def fuse(rankings: Sequence[RankedLists], vote_thresholds: Sequence[float], depth: int) -> RankedLists:
    """Return items by their sum of 1 / (FUSION_CONSTANT + rank), ties by index.

    Items that score below their list's threshold do not vote. Where fewer than `depth` items have votes,
    the other items follow, list after list, with score 0.
    """
    gains = np.concatenate([1.0 / (FUSION_CONSTANT + np.arange(1, r.items.shape[1] + 1)) for r in rankings])
    items = np.concatenate([lists.items for lists in rankings], axis=1)
    strong = [lists.scores >= least for lists, least in zip(rankings, vote_thresholds, strict=True)]
    votes = (items >= 0) & np.concatenate(strong, axis=1)
    fused = RankedLists.empty(len(items), depth)
    for row, (row_items, has_vote) in enumerate(zip(items, votes, strict=True)):
        voted, index = np.unique(row_items[has_vote], return_inverse=True)
        total = np.bincount(index, weights=gains[has_vote], minlength=len(voted))
        order = np.lexsort((voted, -total))
        others = row_items[(row_items >= 0) & ~np.isin(row_items, voted)]
        others = others[np.sort(np.unique(others, return_index=True)[1])]
        merged = np.concatenate([voted[order], others])[:depth]
        fused.items[row, : len(merged)] = merged
        fused.scores[row, : len(merged)] = np.concatenate([total[order], np.zeros(len(others))])[:depth]
    return fused

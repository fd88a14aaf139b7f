"""Models trained on some of the users: their rankings, and the candidates made of these."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.retrieve.candidates.cold_start import SegmentPopularity
from components.retrieve.candidates.exposures import Exposures
from components.retrieve.candidates.fusion import fuse
from components.retrieve.candidates.new_items import NewItems
from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import Interactions, Ints, Queries
from components.retrieve.models import factory
from components.retrieve.models.popularity import item_counts
from components.retrieve.ranking import RankedLists, Recommender
from components.retrieve.report import CEILINGS
from data_contracts.evaluation import ONLINE


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
    """Ranked candidates, how many of them popularity filled in, and how many are new items."""

    lists: RankedLists
    filled: int
    new: int


class CandidateGenerator:
    """Models trained on the train part of `users`; `fold` is held out (-1: none)."""

    def __init__(self, context: RetrievalContext, users: Ints, fold: int) -> None:
        self.context, self.config, self.fold = context, context.config, fold
        data = context.data
        self.train_part = data.train(users)
        valid = data.queries("valid")
        self.valid = valid.take(np.isin(valid.users, users))
        self.fallback = SegmentPopularity(self.train_part, users, context.segments, data.num_items)
        self.vote_thresholds: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.is_new = item_counts(self.train_part, data.num_items) == 0
        self.new_items: NewItems | None = None
        if self.config.new_item_slots and self.is_new.any():
            content = factory.content(self.config, data, self.train_part, context.checkpoint_dir)
            self.new_items = NewItems(data, content, self.is_new)

    def fit_predict(self, name: str, queries: dict[str, Queries]) -> dict[str, RankedLists]:
        """Train model `name` and return its lists per split; they may be short or empty."""
        recommender: Recommender
        if name == ONLINE and self.context.exposures:
            recommender, self.seconds[name] = self.context.exposures, 0.0
        else:
            parts = (self.train_part, self.valid, self.fold, self.context.checkpoint_dir)
            recommender, log = factory.fit(name, self.config, self.context.data, *parts)
            self.seconds[name] = log.seconds
        self.vote_thresholds[name] = recommender.vote_threshold
        depth = self.context.depth
        return {split: recommender.recommend(part, depth) for split, part in queries.items()}

    def fill(self, lists: RankedLists, queries: Queries) -> RankedLists:
        """Return `lists`, short ones filled with what is popular in the user's segment."""
        rows = np.flatnonzero((lists.items[:, : self.config.num_candidates] < 0).any(1))
        if not len(rows):
            return lists
        popular = self.fallback.recommend(queries.take(rows), lists.items.shape[1])
        items, scores = lists.items.copy(), lists.scores.copy()
        for row, more, more_scores in zip(rows, popular.items, popular.scores, strict=True):
            count = np.count_nonzero(items[row] >= 0)
            more = more[~np.isin(more, [*items[row, :count], -1])][: items.shape[1] - count]
            end = count + len(more)
            items[row, count:end] = more
            scores[row, count:end] = scores[row, count - 1] if count else more_scores[: len(more)]
        return RankedLists(items, scores)

    def candidates(self, lists: dict[str, RankedLists], queries: Queries) -> Candidates:
        """Return the fused lists of the candidates' models, short ones filled, with new items inserted."""
        config, names = self.config, self.config.sources
        ranked = lists[names[0]]
        if len(names) > 1:
            thresholds = [self.vote_thresholds[name] for name in names]
            ranked = fuse([lists[name] for name in names], thresholds, ranked.items.shape[1])
        filled = self.fill(ranked, queries)
        wanted = config.num_candidates
        added = (filled.items[:, :wanted] >= 0).sum() - (ranked.items[:, :wanted] >= 0).sum()
        if self.new_items:
            filled = self.new_items.insert(filled, queries, config.new_item_slots, wanted)
        items = filled.items[:, :wanted]
        return Candidates(filled, int(added), int((self.is_new[items] & (items >= 0)).sum()))

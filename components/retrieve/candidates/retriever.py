"""What answers a question: trained models, and how their lists become candidates."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from components.retrieve.candidates.lists import fill, fuse
from components.retrieve.candidates.new_items import NewItems
from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import Bools, Ints, Queries
from components.retrieve.models.popularity import SegmentPopularity
from components.retrieve.ranking import RankedLists, Recommender
from data_contracts.evaluation import ONLINE


@dataclass(frozen=True)
class Candidates:
    """Ranked candidates of prompts; how many popularity filled in, how many are new."""

    queries: Queries
    lists: RankedLists
    filled: int
    new: int


@dataclass(frozen=True)
class Retriever:
    """The same in training, evaluation and serving.

    `models` by name, at least the sources of `config`; `is_new` [items] are items without an interaction.
    """

    config: RetrieveConfig
    models: Mapping[str, Recommender]
    fallback: SegmentPopularity
    is_new: Bools
    new_items: NewItems | None

    @property
    def depth(self) -> int:
        """Items per ranked list."""
        return min(self.config.depth, len(self.is_new))

    def rank(self, name: str, queries: Queries) -> RankedLists:
        """Return the lists of model `name`, short ones filled unless they were shown."""
        lists = self.models[name].recommend(queries, self.depth)
        return lists if name == ONLINE else self.fill(lists, queries)

    def fill(self, lists: RankedLists, queries: Queries) -> RankedLists:
        """Return `lists`, short ones filled with what is popular in the user's segment."""
        short = np.flatnonzero((lists.items[:, : self.config.num_candidates] < 0).any(1))
        if not len(short):
            return lists
        items, scores = lists.items.copy(), lists.scores.copy()
        popular = self.fallback.recommend(queries.take(short), items.shape[1])
        filled = fill(RankedLists(items[short], scores[short]), popular)
        items[short], scores[short] = filled.items, filled.scores
        return RankedLists(items, scores)

    def candidates(self, queries: Queries) -> Candidates:
        """Return the fused lists of the candidates' models, short ones filled, with new items inserted."""
        config, wanted = self.config, self.config.num_candidates
        models = [self.models[name] for name in config.sources]
        rankings = [model.recommend(queries, self.depth) for model in models]
        ranked = rankings[0]
        if len(rankings) > 1:
            ranked = fuse(rankings, [model.vote_threshold for model in models], self.depth)
        lists = self.fill(ranked, queries)
        filled = (lists.items[:, :wanted] >= 0).sum() - (ranked.items[:, :wanted] >= 0).sum()
        if self.new_items:
            lists = self.new_items.insert(lists, queries, config.new_item_slots, wanted)
        items = lists.items[:, :wanted]
        return Candidates(queries, lists, int(filled), int((self.is_new[items] & (items >= 0)).sum()))


def cross_fitted(retrievers: Mapping[int, Retriever], queries: Queries, folds: Ints) -> Candidates:
    """Return the candidates of train prompts, each by the retriever of its fold."""
    depth = next((retriever.depth for retriever in retrievers.values()), 0)
    lists, filled, new = RankedLists.empty(len(queries), depth), 0, 0
    for fold in np.unique(folds).tolist():
        rows = np.flatnonzero(folds == fold)
        part = retrievers[fold].candidates(queries.take(rows))
        lists.items[rows], lists.scores[rows] = part.lists.items, part.lists.scores
        filled, new = filled + part.filled, new + part.new
    return Candidates(queries, lists, filled, new)

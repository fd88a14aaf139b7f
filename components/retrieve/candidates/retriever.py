"""What answers a question: trained models, and how their lists become candidates."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.retrieve.blend.config import TEACHER
from components.retrieve.candidates.lists import fill, fuse, scores_of
from components.retrieve.candidates.new_items import NewItems
from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import Bools, Ints, Queries
from components.retrieve.models.popularity import SegmentPopularity
from components.retrieve.ranking import RankedLists, Recommender


@dataclass(frozen=True)
class Candidates:
    """Ranked candidates of prompts; how many popularity filled in, how many are new.

    `teacher` [rows, candidates] are their scores by the model TEACHER, if there is one.
    """

    queries: Queries
    lists: RankedLists
    filled: int
    new: int
    teacher: npt.NDArray[np.float32] | None = None


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

    def recommend(self, queries: Queries, *names: str) -> dict[str, RankedLists]:
        """Return the lists of these models and the candidates', each ranked once."""
        asked = dict.fromkeys((*names, *self.config.sources))
        return {name: self.models[name].recommend(queries, self.depth) for name in asked}

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

    def candidates(self, queries: Queries, lists: Mapping[str, RankedLists] | None = None) -> Candidates:
        """Return the fused lists of the candidates' models, short ones filled, with new items inserted.

        `lists` are those that `recommend` gave for `queries`.
        """
        config, wanted = self.config, self.config.num_candidates
        found = self.recommend(queries) if lists is None else lists
        rankings = [found[name] for name in config.sources]
        ranked = rankings[0]
        if len(rankings) > 1:
            thresholds = [self.models[name].vote_threshold for name in config.sources]
            ranked = fuse(rankings, thresholds, self.depth)
        full = self.fill(ranked, queries)
        filled = (full.items[:, :wanted] >= 0).sum() - (ranked.items[:, :wanted] >= 0).sum()
        if self.new_items:
            full = self.new_items.insert(full, queries, config.new_item_slots, wanted)
        items = full.items[:, :wanted]
        teacher = None
        if TEACHER in self.models:
            teacher = scores_of(self.models[TEACHER].recommend(queries, self.depth), items)
        new = int((self.is_new[items] & (items >= 0)).sum())
        return Candidates(queries, full, int(filled), new, teacher)


def cross_fitted(retrievers: Mapping[int, Retriever], queries: Queries, folds: Ints) -> Candidates:
    """Return the candidates of train prompts, each by the retriever of its fold."""
    depth = next((retriever.depth for retriever in retrievers.values()), 0)
    lists, filled, new = RankedLists.empty(len(queries), depth), 0, 0
    teacher = None
    for fold in np.unique(folds).tolist():
        rows = np.flatnonzero(folds == fold)
        part = retrievers[fold].candidates(queries.take(rows))
        lists.items[rows], lists.scores[rows] = part.lists.items, part.lists.scores
        filled, new = filled + part.filled, new + part.new
        if part.teacher is not None:
            if teacher is None:
                teacher = np.zeros((len(queries), part.teacher.shape[1]), np.float32)
            teacher[rows] = part.teacher
    return Candidates(queries, lists, filled, new, teacher)

"""Recommenders by votes of the latest items, sparse: a large catalogue costs no more than a small one."""

import abc
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from components.retrieve.interactions import EVERY_ROW, Histories, Ints, Rows
from components.retrieve.model_config import ItemToItemConfig
from components.retrieve.models.co_occurrence.pairs import entries, in_order
from components.retrieve.models.popularity import item_counts
from components.retrieve.ranking import NO_ITEM, RankedLists, Scorer, Scores, contains, top_columns

Floats = npt.NDArray[np.floating]


def recency_weights(latest: Histories, decay: float) -> Floats:
    """Return `decay` to the power of each item's distance from its history's end, flat."""
    age = np.repeat(np.cumsum(latest.lengths), latest.lengths) - 1 - np.arange(latest.lengths.sum())
    return decay**age


class VotingScorer(Scorer):
    """The latest items of a history vote for others; then, popular items fill the list.

    An item's score is 1 + its votes; without any, its share of the highest count.
    """

    vote_threshold = 1.0

    def __init__(self, train: Histories, num_items: int, config: ItemToItemConfig) -> None:
        self.num_items, self.config = num_items, config
        self.counts = item_counts(train, num_items)
        self.popular = np.argsort(-self.counts, kind="stable")

    @abc.abstractmethod
    def elect(self, votes: sparse.csr_array) -> sparse.csr_array:
        """Return the sum of what `votes` [rows, items] are given for, of that shape."""

    def votes(self, histories: Histories) -> sparse.csr_array:
        """Return the positive votes [rows, items] of each history, items ascending."""
        latest = histories.last(self.config.last)
        given = recency_weights(latest, self.config.decay)
        shape = len(histories), self.num_items
        total = self.elect(sparse.csr_array((given, latest.flat()), shape=shape))
        total.eliminate_zeros()
        return in_order(total)

    def scores(self, histories: Histories) -> torch.Tensor:
        """Return the scores of every item."""
        votes = self.votes(histories).toarray()
        return torch.from_numpy(np.where(votes > 0, 1 + votes, self._backoff))

    def block(self, histories: Histories) -> "VotedScores":
        """Return the same scores, as votes and what stands for their absence."""
        return VotedScores(self.votes(histories), self._backoff, self.popular, histories)

    @property
    def _backoff(self) -> Floats:
        return self.counts / (self.counts.max(initial=0) + 1)


@dataclass(frozen=True)
class VotedScores(Scores):
    """Scores 1 + `votes` [rows, items] where there are votes, `backoff` [items] elsewhere.

    `popular` are the items by (backoff descending, item ascending); every backoff is below 1.
    """

    votes: sparse.csr_array
    backoff: Floats
    popular: Ints
    histories: Histories

    def best_unseen(self, depth: int) -> RankedLists:
        """Return the `depth` best items that each history lacks."""
        most = depth + int(self.histories.lengths.max(initial=0))
        items, scores = self._voted(most)
        lists = self._unseen(EVERY_ROW, items, scores, depth)
        short = np.flatnonzero(lists.items[:, -1] < 0)
        if len(short):
            voted = Histories(self.votes.indices, self.votes.indptr[:-1], self.votes.indptr[1:]).take(short)
            popular = np.tile(self.popular[: 2 * most], (len(short), 1))
            filling = np.where(contains(voted, popular), -np.inf, self.backoff[popular])
            items = np.concatenate([items[short], popular], axis=1)
            filled = self._unseen(short, items, np.concatenate([scores[short], filling], axis=1), depth)
            lists.items[short], lists.scores[short] = filled.items, filled.scores
        return lists

    def log_softmax(self, items: Ints) -> npt.NDArray[np.float32]:
        """Return the log of each row's softmax over the catalogue at `items` [rows, n]."""
        votes, given = self.votes, entries(self.votes, items)
        scores = np.where(given > 0, 1 + given, self.backoff[items])
        highest = 1 + votes.max(axis=1).toarray()
        by_votes = np.exp(1 + votes.data - np.repeat(highest, np.diff(votes.indptr)))
        unvoted = np.exp(self.backoff)
        rest = unvoted.sum() - self._row_sums(unvoted[votes.indices])
        log_total = highest + np.log(self._row_sums(by_votes) + rest * np.exp(-highest))
        return (scores - log_total[:, None]).astype(np.float32)

    def _voted(self, count: int) -> tuple[Ints, Floats]:
        """Return the items with the most votes and their scores, -inf behind the last."""
        votes, lengths = self.votes, np.diff(self.votes.indptr)
        columns = np.arange(lengths.max(initial=0))
        entry = np.minimum(votes.indptr[:-1, None] + columns, max(0, votes.nnz - 1))
        is_vote = columns < lengths[:, None]
        scores = np.where(is_vote, 1 + votes.data[entry], -np.inf)
        best, values = top_columns(torch.from_numpy(scores), count)
        items = np.take_along_axis(votes.indices[entry], best, axis=1)
        return np.where(values > -np.inf, items, NO_ITEM), values

    def _unseen(self, rows: Rows, items: Ints, scores: Floats, depth: int) -> RankedLists:
        """Return the `depth` best of `items` that the histories at `rows` lack."""
        seen = contains(self.histories.take(rows), items)
        return RankedLists.best(items, np.where(seen, -np.inf, scores), depth)

    def _row_sums(self, values: Floats) -> Floats:
        """Return the sum of `values`, one per vote, of each row."""
        return sparse.csr_array((values, self.votes.indices, self.votes.indptr), self.votes.shape).sum(axis=1)

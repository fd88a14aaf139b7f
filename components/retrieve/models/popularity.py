"""Popularity: the most frequent items of the train part."""

import numpy as np
import numpy.typing as npt
import torch

from components.retrieve.interactions import Histories, Ints, Queries
from components.retrieve.ranking import RankedLists, Scorer


def item_counts(train: Histories, num_items: int) -> Ints:
    """Return how often each item appears in `train`, [items]."""
    return np.bincount(train.flat()[1], minlength=num_items)


class Popularity(Scorer):
    """The same order for every user: items by their count."""

    def __init__(self, counts: npt.NDArray) -> None:
        self.num_items = len(counts)
        self.counts = torch.from_numpy(counts.astype(np.float32))

    def scores(self, histories: Histories) -> torch.Tensor:
        """Return the counts, once per history."""
        return self.counts.repeat(len(histories), 1)

    def recommend(self, queries: Queries, depth: int) -> RankedLists:
        """Return `rank`, for empty histories too."""
        return self.rank(queries.histories, depth)

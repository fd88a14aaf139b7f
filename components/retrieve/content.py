"""Items with tags like those of the history: finds items that nobody has met yet."""

import numpy as np
import torch

from components.retrieve.config import ContentConfig
from components.retrieve.counts import item_counts
from components.retrieve.interactions import Histories
from components.retrieve.ranking import Recommender


class Content(Recommender):
    """Cosine of TF-IDF tag vectors between an item and the latest items of the history.

    Salton & Buckley 1988. Inverse document frequencies are counted over the catalogue, not over
    interactions; popularity in the train part decides only between equally similar items.
    """

    evidence = 2e-3

    def __init__(self, train: Histories, tags: Histories, num_items: int, config: ContentConfig) -> None:
        self.num_items, self.config = num_items, config
        rows, columns = tags.flat()
        width = int(columns.max(initial=-1)) + 1
        weights = np.log(num_items / np.bincount(columns, minlength=max(width, 1))[columns]) + 1.0
        norms = np.sqrt(np.bincount(rows, weights=weights**2, minlength=num_items))
        entries = torch.from_numpy((weights / norms[rows]).astype(np.float32))
        places = torch.from_numpy(np.stack([rows, columns]))
        shape = (num_items, max(width, 1))
        self.vectors = torch.sparse_coo_tensor(places, entries, shape, check_invariants=True).coalesce()
        counts = item_counts(train, num_items)
        self.backoff = torch.from_numpy((counts / (counts.max() + 1)).astype(np.float32)) * 1e-3

    def scores(self, histories: Histories) -> torch.Tensor:
        """Return the decayed sum of cosines to the latest items, plus at most 0.001 of popularity."""
        latest = histories.last(self.config.last)
        rows, items = latest.flat()
        ends = np.cumsum(latest.lengths)
        age = np.repeat(ends, latest.lengths) - 1 - np.arange(len(items))
        votes = torch.from_numpy((self.config.decay**age).astype(np.float32))
        places = torch.from_numpy(np.stack([items, rows]))
        shape = (self.num_items, len(latest))
        voted = torch.sparse_coo_tensor(places, votes, shape, check_invariants=True)
        profiles = torch.sparse.mm(self.vectors.t(), voted).to_dense()
        return torch.sparse.mm(self.vectors, profiles).T.contiguous() + self.backoff

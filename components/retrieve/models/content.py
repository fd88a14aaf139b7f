"""Content: items similar to the history by tags or sentence embeddings, new items included."""

import warnings

import numpy as np
import torch
from torch import Tensor

from components.retrieve.interactions import Histories
from components.retrieve.model_config import ContentConfig
from components.retrieve.models.co_occurrence.voting import recency_weights
from components.retrieve.models.popularity import item_counts
from components.retrieve.ranking import Scorer


def tag_vectors(tags: Histories, num_items: int) -> Tensor:
    """Return sparse unit vectors [items, tags]: TF-IDF of the items' tags (Salton & Buckley 1988)."""
    rows, columns = tags.flat()
    width = max(int(columns.max(initial=-1)) + 1, 1)
    weights = np.log(num_items / np.bincount(columns, minlength=width)[columns]) + 1.0
    norms = np.sqrt(np.bincount(rows, weights=weights**2, minlength=num_items))
    entries = torch.from_numpy((weights / norms[rows]).astype(np.float32))
    indices = torch.from_numpy(np.stack([rows, columns]))
    return torch.sparse_coo_tensor(indices, entries, (num_items, width), check_invariants=True).coalesce()


class Content(Scorer):
    """Cosine with the latest items of the history; popularity decides between equally similar items."""

    vote_threshold = 2e-3

    def __init__(self, train: Histories, vectors: Tensor, config: ContentConfig) -> None:
        """`vectors` [items, dim] have length 1 (or 0: nothing is known); sparse or dense."""
        self.vectors, self.num_items, self.config = vectors, len(vectors), config
        counts = item_counts(train, self.num_items)
        self.backoff = torch.from_numpy((counts / (counts.max() + 1)).astype(np.float32)) * 1e-3

    def scores(self, histories: Histories) -> Tensor:
        """Return the similarity to the latest items, plus at most 0.001 of popularity."""
        return self.similarity(histories, self.vectors) + self.backoff

    def similarity(self, histories: Histories, vectors: Tensor) -> Tensor:
        """Return the decayed sum of cosines of the latest items with `vectors`, [rows, vectors]."""
        latest = histories.last(self.config.last)
        rows, items = latest.flat()
        votes = torch.from_numpy(recency_weights(latest, self.config.decay).astype(np.float32))
        indices = torch.from_numpy(np.stack([items, rows]))
        shape = (self.num_items, len(latest))
        voted = torch.sparse_coo_tensor(indices, votes, shape, check_invariants=True)
        if self.vectors.is_sparse:
            with warnings.catch_warnings():  # torch's "beta state": the products are tested here
                warnings.filterwarnings("ignore", "Sparse CSR tensor support")
                profiles = torch.sparse.mm(self.vectors.t(), voted).to_dense()
            return torch.sparse.mm(vectors, profiles).T.contiguous()
        return torch.sparse.mm(voted.t(), self.vectors) @ vectors.T

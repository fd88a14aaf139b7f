"""Item-to-item: neighbours by co-occurrence in histories (Linden, Smith & York 2003)."""

import numpy as np
from scipy import sparse

from components.retrieve.interactions import Histories
from components.retrieve.model_config import ItemToItemConfig
from components.retrieve.models.co_occurrence.pairs import strongest, successor_weights
from components.retrieve.models.co_occurrence.voting import VotingScorer


class ItemToItem(VotingScorer):
    """Votes by cosine of co-occurrence, before or after, or directed: of what came after alone."""

    def __init__(
        self, train: Histories, num_items: int, config: ItemToItemConfig, is_directed: bool = False
    ) -> None:
        super().__init__(train, num_items, config)
        pairs = successor_weights(train, num_items, config.window)
        norms = sparse.diags_array(1 / np.sqrt(np.maximum(self.counts, 1)))
        cosines = norms @ (pairs if is_directed else pairs + pairs.T) @ norms
        self.neighbours = strongest(cosines.tocsr(), config.neighbours)

    def elect(self, votes: sparse.csr_array) -> sparse.csr_array:
        """Return the votes for each item's nearest neighbours."""
        return votes @ self.neighbours

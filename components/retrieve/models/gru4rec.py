"""GRU4Rec: a recurrent network over the history (Hidasi et al. 2016, section 3).

Simplified: the softmax loss of the shared table in place of TOP1 or BPR over the mini-batch.
"""

import torch
from torch import Tensor, nn

from components.retrieve.model_config import NextItemConfig
from components.retrieve.networks.item_network import NextItemNetwork, init_weights


class Gru4rec(NextItemNetwork):
    """Stacked gated recurrent units over item embeddings."""

    def __init__(self, num_items: int, config: NextItemConfig) -> None:
        super().__init__(num_items, config)
        between = config.dropout if config.layers > 1 else 0.0
        self.gru = nn.GRU(config.dim, config.dim, config.layers, batch_first=True, dropout=between)
        self.drop, self.out = nn.Dropout(config.dropout), nn.Linear(config.dim, config.dim)
        init_weights(self)

    def encode(self, items: Tensor, at: Tensor | None = None) -> Tensor:
        """Return [rows, length, dim] for items [rows, length], or [rows, dim] at positions `at`."""
        states, _ = self.gru(self.drop(self.items(items)))
        if at is not None:
            states = states[torch.arange(len(items), device=items.device), at]
        return self.out(self.drop(states))

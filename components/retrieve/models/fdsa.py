"""FDSA: self-attention over items and over their attributes (Zhang et al. 2019, section 3)."""

import torch
from torch import Tensor, nn

from components.retrieve.config import FdsaConfig
from components.retrieve.interactions import Histories
from components.retrieve.networks.attention import Encoder
from components.retrieve.networks.attributes import Attributes
from components.retrieve.networks.item_network import NextItemNetwork, init_weights


class Fdsa(NextItemNetwork):
    """Causal encoders of items and of attributes, joined by a linear layer (section 3.4)."""

    def __init__(self, num_items: int, tags: Histories, config: FdsaConfig) -> None:
        super().__init__(num_items, config)
        shape = (config.max_length, config.dim, config.layers, config.heads, config.dropout)
        self.attributes = Attributes(tags, num_items, config.dim, config.max_attributes)
        self.of_items, self.of_attributes = Encoder(*shape), Encoder(*shape)
        self.join = nn.Linear(2 * config.dim, config.dim)
        init_weights(self)

    def encode(self, items: Tensor, at: Tensor | None = None) -> Tensor:
        """Return [rows, length, dim] for items [rows, length], or [rows, dim] at positions `at`."""
        both = (self.of_items(self.items(items), at=at), self.of_attributes(self.attributes(items), at=at))
        return self.join(torch.cat(both, -1))

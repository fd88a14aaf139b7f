"""FDSA: self-attention over items and over their attributes (Zhang et al. 2019, section 3)."""

import numpy as np
import torch
from torch import Tensor, nn

from components.retrieve.interactions import Histories
from components.retrieve.model_config import FdsaConfig
from components.retrieve.networks.attention import Encoder
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


class Attributes(nn.Module):
    """One vector per item: the embeddings of its tags, weighted by vanilla attention (section 3.2)."""

    table: Tensor

    def __init__(self, tags: Histories, num_items: int, dim: int, most: int) -> None:
        """Keep at most `most` attributes of each item, those that fewest items have."""
        super().__init__()
        self.number = int(tags.flat()[1].max(initial=-1)) + 1
        self.register_buffer("table", torch.from_numpy(rarest_attributes(tags, num_items, self.number, most)))
        self.vectors = nn.Embedding(self.number + 1, dim)
        self.weight = nn.Linear(dim, 1)

    def forward(self, items: Tensor) -> Tensor:
        """Return [..., dim] for items [...]; index num_items is padding."""
        unique, index = torch.unique(items, return_inverse=True)
        attributes = self.table[unique]
        vectors = self.vectors(attributes)
        absent = attributes == self.number
        absent[:, 0] = False  # an item without attributes attends to the filler
        weights = self.weight(vectors).squeeze(-1).masked_fill(absent, -torch.inf).softmax(1)
        return (weights[..., None] * vectors).sum(1)[index]

    def targets(self, items: Tensor) -> Tensor:
        """Return [n, attributes] of 0 and 1 for items [n]."""
        targets = torch.zeros(len(items), self.number + 1, device=items.device)
        return targets.scatter_(1, self.table[items], 1.0)[:, : self.number]


def rarest_attributes(tags: Histories, num_items: int, number: int, most: int) -> np.ndarray:
    """Return [num_items + 1, width <= most] attribute numbers, rarest first, filled up with `number`."""
    rows, attributes = tags.flat()
    counts = np.bincount(attributes, minlength=number)
    order = np.lexsort((attributes, counts[attributes], rows))
    rows, attributes = rows[order], attributes[order]
    column = np.arange(len(rows)) - np.searchsorted(rows, rows)
    table = np.full((num_items + 1, max(1, min(most, column.max(initial=0) + 1))), number, np.int64)
    kept = column < table.shape[1]
    table[rows[kept], column[kept]] = attributes[kept]
    return table

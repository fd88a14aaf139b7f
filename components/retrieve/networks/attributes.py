"""Item attributes (tags, categories, brand) as embeddings, for the models that read them."""

import numpy as np
import torch
from torch import Tensor, nn

from components.retrieve.interactions import Histories


class Attributes(nn.Module):
    """A vector an item: its attributes' embeddings, weighted by vanilla attention.

    Zhang et al. 2019 (FDSA), section 3.2. Items without attributes, and padding, have one of their own.
    """

    table: Tensor

    def __init__(self, tags: Histories, num_items: int, dim: int, most: int) -> None:
        """Keep at most `most` attributes of each item, those that fewest items have."""
        super().__init__()
        self.number = int(tags.flat()[1].max(initial=-1)) + 1
        self.register_buffer("table", torch.from_numpy(rarest(tags, num_items, self.number, most)))
        self.vectors = nn.Embedding(self.number + 1, dim)
        self.weight = nn.Linear(dim, 1)

    def forward(self, items: Tensor) -> Tensor:
        """Return [..., dim] for items [...]; index num_items is padding. An item is looked at once."""
        unique, place = torch.unique(items, return_inverse=True)
        found = self.table[unique]
        vectors = self.vectors(found)
        absent = found == self.number
        absent[:, 0] = False  # what has nothing attends to the filler
        weights = self.weight(vectors).squeeze(-1).masked_fill(absent, -torch.inf).softmax(1)
        return (weights[..., None] * vectors).sum(1)[place]

    def targets(self, items: Tensor) -> Tensor:
        """Return [n, attributes] of 0 and 1 for items [n]."""
        found = torch.zeros(len(items), self.number + 1, device=items.device)
        return found.scatter_(1, self.table[items], 1.0)[:, : self.number]


def rarest(tags: Histories, num_items: int, number: int, most: int) -> np.ndarray:
    """Return [num_items + 1, width <= most] attribute numbers, rarest first, filled up with `number`."""
    rows, found = tags.flat()
    counts = np.bincount(found, minlength=number)
    order = np.lexsort((found, counts[found], rows))
    rows, found = rows[order], found[order]
    lengths = np.bincount(rows, minlength=num_items + 1)
    column = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    table = np.full((num_items + 1, max(1, min(most, lengths.max(initial=0)))), number, np.int64)
    kept = column < table.shape[1]
    table[rows[kept], column[kept]] = found[kept]
    return table

"""BERT4Rec: bidirectional self-attention that fills in hidden items (Sun et al. 2019, section 3)."""

import torch
from torch import Tensor, nn

from components.retrieve.config import Bert4recConfig
from components.retrieve.networks.attention import Encoder
from components.retrieve.networks.next_item import ItemNetwork, initialise


class Bert4rec(ItemNetwork):
    """Learns items hidden anywhere in the sequence (section 3.6); asked for one hidden after its end."""

    def __init__(self, num_items: int, config: Bert4recConfig) -> None:
        super().__init__(num_items, config)
        self.mask_share, self.last_share = config.mask_share, config.last_share
        self.mask = nn.Parameter(torch.empty(config.dim))
        # One place more than the history: the hidden item that stands for the next one.
        self.encoder = Encoder(config.max_length + 1, config.dim, config.layers, config.heads, config.dropout)
        initialise(self)
        nn.init.normal_(self.mask, std=0.02)

    def encode(self, items: Tensor, hidden: Tensor, lengths: Tensor, at: Tensor | None = None) -> Tensor:
        """Return [rows, length, dim] for items [rows, length] without those `hidden` [rows, length].

        With `at` [rows] it is what stands at those places alone, [rows, dim].
        """
        x = torch.where(hidden[..., None], self.mask, self.items(items))
        seen = torch.arange(items.shape[1], device=items.device) < lengths[:, None]
        return self.encoder(x, seen, at)

    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean loss of items hidden at random; in a share of the rows only the last one is."""
        places = torch.arange(items.shape[1], device=items.device)
        last = places == lengths[:, None] - 1
        hidden = (torch.rand(items.shape, device=items.device) < self.mask_share) & (
            places < lengths[:, None]
        )
        asked_last = torch.rand(len(items), 1, device=items.device) < self.last_share
        hidden = torch.where(asked_last | ~hidden.any(1, keepdim=True), last, hidden)
        found = self.directions(self.encode(items, hidden, lengths)[hidden])
        return self.objective(found, items[hidden])

    def user_vectors(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return what is filled in right after each history."""
        items = nn.functional.pad(items, (0, 1), value=self.num_items)
        after = torch.arange(items.shape[1], device=items.device) == lengths[:, None]
        return self.directions(self.encode(items, after, lengths + 1, at=lengths))

"""BERT4Rec: bidirectional self-attention that predicts masked items (Sun et al. 2019, section 3)."""

import torch
from torch import Tensor, nn

from components.retrieve.model_config import Bert4recConfig
from components.retrieve.networks.attention import Encoder
from components.retrieve.networks.item_network import ItemNetwork, init_weights, sample_mask


class Bert4rec(ItemNetwork):
    """Trained on items masked anywhere (section 3.6); recommends for a mask after the history."""

    def __init__(self, num_items: int, config: Bert4recConfig) -> None:
        super().__init__(num_items, config)
        self.mask_share, self.last_share = config.mask_share, config.last_share
        self.mask = nn.Parameter(torch.empty(config.dim))
        # One position more than the history, for the mask that stands for the next item.
        self.encoder = Encoder(config.max_length + 1, config.dim, config.layers, config.heads, config.dropout)
        init_weights(self)
        nn.init.normal_(self.mask, std=0.02)

    def encode(self, items: Tensor, masked: Tensor, lengths: Tensor, at: Tensor | None = None) -> Tensor:
        """Return [rows, length, dim] for items [rows, length], or [rows, dim] at positions `at`."""
        x = torch.where(masked[..., None], self.mask, self.items(items))
        visible = torch.arange(items.shape[1], device=items.device) < lengths[:, None]
        return self.encoder(x, visible, at)

    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean loss of items masked at random, in some rows only the last."""
        masked = sample_mask(items, lengths, self.mask_share)
        last = torch.arange(items.shape[1], device=items.device) == lengths[:, None] - 1
        last_only = torch.rand(len(items), 1, device=items.device) < self.last_share
        masked = torch.where(last_only, last, masked)
        return self.objective(self.directions(self.encode(items, masked, lengths)[masked]), items[masked])

    def user_vectors(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the prediction for a mask right after each history."""
        items = nn.functional.pad(items, (0, 1), value=self.num_items)
        after = torch.arange(items.shape[1], device=items.device) == lengths[:, None]
        return self.directions(self.encode(items, after, lengths + 1, at=lengths))

"""S3-Rec: SASRec that is first taught what lies in the sequences by itself (Zhou et al. 2020, section 4).

Simplified: the masked item is found among the whole catalogue by the same loss as the next item, and
negatives of attributes are all the attributes that an item lacks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.retrieve.config import S3recConfig
from components.retrieve.interactions import Histories
from components.retrieve.networks.attention import Encoder
from components.retrieve.networks.attributes import Attributes
from components.retrieve.networks.next_item import NextItemNetwork, initialise
from components.retrieve.networks.training import SequenceNetwork
from components.retrieve.ranking import Recommender


class S3rec(NextItemNetwork):
    """SASRec with a place more than the history has, because pre-training reads whole windows."""

    def __init__(self, num_items: int, config: S3recConfig) -> None:
        super().__init__(num_items, config)
        self.encoder = Encoder(config.max_length + 1, config.dim, config.layers, config.heads, config.dropout)
        initialise(self)

    def encode(self, items: Tensor, at: Tensor | None = None) -> Tensor:
        """Return [rows, length, dim] for items [rows, length], or [rows, dim] at the places `at`."""
        return self.encoder(self.items(items), at=at)


class Pretraining(SequenceNetwork):
    """Teaches `network` mutual information between items, attributes and segments (section 4.2).

    Reads sequences in both directions. `objective_weights` are those of associated attributes, masked
    items, masked attributes and segments (equations 5 to 8).
    """

    def __init__(self, network: S3rec, tags: Histories, config: S3recConfig) -> None:
        super().__init__()
        self.network = network
        self.num_items, self.max_length = network.num_items, network.max_length
        self.mask_share, self.weights = config.mask_share, config.objective_weights
        self.attributes = Attributes(tags, network.num_items, config.dim, config.max_attributes)
        self.mask = nn.Parameter(torch.empty(config.dim))
        self.of_item, self.of_place, self.of_segment = (nn.Linear(config.dim, config.dim) for _ in range(3))
        for part in (self.attributes, self.of_item, self.of_place, self.of_segment):
            initialise(part)
        nn.init.normal_(self.mask, std=0.02)

    def recommender(self, device: torch.device) -> Recommender:
        """Return the network's."""
        return self.network.recommender(device)

    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the weighted sum of the four losses over sequences [rows, length]."""
        places = torch.arange(items.shape[1], device=items.device)
        real = places < lengths[:, None]
        hidden = (torch.rand(items.shape, device=items.device) < self.mask_share) & real
        hidden |= (places == lengths[:, None] - 1) & ~hidden.any(1, keepdim=True)
        masked = self._read(items, hidden, real)[hidden]
        of_masked = self.attributes.targets(items[hidden])
        alone = torch.unique(items[real])
        losses = (
            self._attribute_loss(self.of_item(self.network.items(alone)), self.attributes.targets(alone)),
            self.network.objective(self.network.directions(masked), items[hidden]),
            self._attribute_loss(self.of_place(masked), of_masked),
            self._segment_loss(items, lengths, real),
        )
        return torch.stack([w * one for w, one in zip(self.weights, losses, strict=True)]).sum()

    def _read(self, items: Tensor, hidden: Tensor, seen: Tensor) -> Tensor:
        x = torch.where(hidden[..., None], self.mask, self.network.items(items))
        return self.network.encoder(x, seen)

    def _attribute_loss(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Return the binary cross-entropy of every attribute, summed over attributes, a mean over rows."""
        if not self.attributes.number:
            return vectors.new_zeros(())
        logits = vectors @ self.attributes.vectors.weight[: self.attributes.number].T
        return F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").sum(1).mean()

    def _segment_loss(self, items: Tensor, lengths: Tensor, real: Tensor) -> Tensor:
        """Return the loss of telling the hidden segment of a row from that of the row beside it."""
        length = (1 + torch.rand(len(items), device=items.device) * (lengths / 2 - 1e-6)).long()
        start = (torch.rand(len(items), device=items.device) * (lengths - length + 1)).long()
        places = torch.arange(items.shape[1], device=items.device)
        cut = (places >= start[:, None]) & (places < (start + length)[:, None])
        rows = torch.arange(len(items), device=items.device)
        context = self.of_segment(self._read(items, cut, real)[rows, lengths - 1])
        segment = self._read(items, ~cut & real, real)[rows, start + length - 1]
        own, other = (context * segment).sum(1), (context * segment.roll(1, 0)).sum(1)
        return F.softplus(other - own).mean()

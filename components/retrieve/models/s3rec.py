"""S3-Rec: SASRec after self-supervised pre-training (Zhou et al. 2020, section 4).

Simplified: masked items have the same loss over the whole catalogue as the next item, and negatives of
attributes are all the attributes that an item lacks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.retrieve.interactions import Histories
from components.retrieve.model_config import S3recConfig
from components.retrieve.models.fdsa import Attributes
from components.retrieve.models.sasrec import Sasrec
from components.retrieve.networks.item_network import init_weights, sample_mask
from components.retrieve.networks.training import SequenceNetwork
from components.retrieve.ranking import Recommender


class Pretraining(SequenceNetwork):
    """Teaches `network` mutual information between items, attributes and segments (section 4.2)."""

    def __init__(self, network: Sasrec, tags: Histories, config: S3recConfig) -> None:
        super().__init__()
        self.network = network
        self.num_items, self.max_length = network.num_items, network.max_length
        self.mask_share, self.weights = config.mask_share, config.objective_weights
        self.attributes = Attributes(tags, network.num_items, config.dim, config.max_attributes)
        self.mask = nn.Parameter(torch.empty(config.dim))
        self.of_item, self.of_masked, self.of_segment = (nn.Linear(config.dim, config.dim) for _ in range(3))
        for part in (self.attributes, self.of_item, self.of_masked, self.of_segment):
            init_weights(part)
        nn.init.normal_(self.mask, std=0.02)

    def recommender(self) -> Recommender:
        """Return the network's recommender."""
        return self.network.recommender()

    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the weighted sum of the losses of equations 5 to 8."""
        real = torch.arange(items.shape[1], device=items.device) < lengths[:, None]
        masked = sample_mask(items, lengths, self.mask_share)
        states = self._encode(items, masked, real)[masked]
        single = torch.unique(items[real])
        losses = (
            self._attribute_loss(self.of_item(self.network.items(single)), single),
            self.network.objective(self.network.directions(states), items[masked]),
            self._attribute_loss(self.of_masked(states), items[masked]),
            self._segment_loss(items, lengths, real),
        )
        return torch.stack([w * loss for w, loss in zip(self.weights, losses, strict=True)]).sum()

    def _encode(self, items: Tensor, masked: Tensor, visible: Tensor) -> Tensor:
        x = torch.where(masked[..., None], self.mask, self.network.items(items))
        return self.network.encoder(x, visible)

    def _attribute_loss(self, vectors: Tensor, items: Tensor) -> Tensor:
        """Return the binary cross-entropy of the items' attributes: their sum, as a mean over items."""
        if not self.attributes.number:
            return vectors.new_zeros(())
        logits = vectors @ self.attributes.vectors.weight[: self.attributes.number].T
        targets = self.attributes.targets(items)
        return F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").sum(1).mean()

    def _segment_loss(self, items: Tensor, lengths: Tensor, real: Tensor) -> Tensor:
        """Return the loss of telling a row's masked segment from its neighbour's."""
        length = (1 + torch.rand(len(items), device=items.device) * (lengths / 2 - 1e-6)).long()
        start = (torch.rand(len(items), device=items.device) * (lengths - length + 1)).long()
        positions = torch.arange(items.shape[1], device=items.device)
        cut = (positions >= start[:, None]) & (positions < (start + length)[:, None])
        rows = torch.arange(len(items), device=items.device)
        context = self.of_segment(self._encode(items, cut, real)[rows, lengths - 1])
        segment = self._encode(items, ~cut & real, real)[rows, start + length - 1]
        own, other = (context * segment).sum(1), (context * segment.roll(1, 0)).sum(1)
        return F.softplus(other - own).mean()

"""What the networks over an item table share: one item table on both sides, and the loss over it.

"softmax" is cross-entropy over the whole catalogue (or sampled negatives), which makes these models
strong baselines (Klenitskiy & Vasilev 2023); "bce" is binary cross-entropy with one negative a position.
"""

import abc
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.retrieve.config import NextItemConfig
from components.retrieve.interactions import Histories
from components.retrieve.networks import losses
from components.retrieve.networks.training import VectorNetwork

Loss = Literal["softmax", "bce"]


class ItemNetwork(VectorNetwork):
    """One item table for what is read and what is found. Its last row stands for padding."""

    def __init__(self, num_items: int, config: NextItemConfig, loss: Loss = "softmax") -> None:
        super().__init__()
        self.num_items, self.max_length = num_items, config.max_length
        self.kind, self.negatives, self.temperature = loss, config.negatives, config.temperature
        self.items = nn.Embedding(num_items + 1, config.dim)

    def directions(self, vectors: Tensor) -> Tensor:
        """Return [..., dim] as directions divided by the temperature where one is set."""
        return F.normalize(vectors, dim=-1) / self.temperature if self.temperature else vectors

    def item_vectors(self) -> Tensor:
        """Return the item table without its padding row, as directions where a temperature is set."""
        table = self.items.weight[: self.num_items]
        return F.normalize(table, dim=-1) if self.temperature else table

    def objective(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of finding the items `targets` [places] by `vectors` [places, dim]."""
        table = self.item_vectors()
        if self.kind == "bce":
            negatives = torch.randint(self.num_items, targets.shape, device=targets.device)
            return losses.binary(vectors, table, targets, negatives)
        if 0 < self.negatives < self.num_items:
            negatives = torch.randperm(self.num_items, device=targets.device)[: self.negatives]
            return losses.sampled_softmax(vectors, table, targets, negatives)
        return losses.full_softmax(vectors.float(), table, targets)


class NextItemNetwork(ItemNetwork):
    """Predicts each item from those before it."""

    def __init__(self, num_items: int, config: NextItemConfig, loss: Loss = "softmax") -> None:
        super().__init__(num_items, config, loss)
        self.prefixes = config.prefixes

    def cut(self, histories: Histories) -> Histories:
        """Return the pieces that are learnt from: windows, or every prefix by itself."""
        cut = Histories.prefixes if self.prefixes else Histories.windows
        return cut(histories, self.max_length + 1)

    @abc.abstractmethod
    def encode(self, items: Tensor, at: Tensor | None = None) -> Tensor:
        """Return [rows, length, dim] for items [rows, length]; a place sees itself and those before it.

        With `at` [rows] it is what stands at those places alone, [rows, dim].
        """

    def user_vectors(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return what stands at the last item of each history."""
        return self.directions(self.encode(items, lengths - 1))

    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean loss of predicting each item, of a prefix the last one, from those before it."""
        inputs, targets = items[:, :-1], items[:, 1:]
        if self.prefixes:
            asked = targets.gather(1, lengths[:, None] - 2)[:, 0]
            return self.objective(self.user_vectors(inputs, lengths - 1), asked)
        real = targets != self.num_items
        return self.objective(self.directions(self.encode(inputs))[real], targets[real])


def initialise(network: nn.Module, std: float = 0.02) -> None:
    """Draw linear and embedding weights from a normal distribution, biases zero (BERT's way)."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

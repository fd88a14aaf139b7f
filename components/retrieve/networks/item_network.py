"""Networks with one item table for input and output, their losses and recommender.

The softmax over the whole catalogue, or over sampled negatives, makes these models strong baselines
(Klenitskiy & Vasilev 2023); SASRec as published has binary cross-entropy with one negative per position.
"""

import abc

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.retrieve.interactions import Histories
from components.retrieve.model_config import NextItemConfig
from components.retrieve.networks import losses
from components.retrieve.networks.training import SequenceNetwork, pad
from components.retrieve.ranking import Scorer


class ItemNetwork(SequenceNetwork):
    """Turns a history into a vector; its products with the item table are the scores."""

    def __init__(self, num_items: int, config: NextItemConfig, is_binary: bool = False) -> None:
        super().__init__()
        self.num_items, self.max_length, self.prefixes = num_items, config.max_length, config.prefixes
        self.is_binary, self.negatives, self.temperature = is_binary, config.negatives, config.temperature
        self.smoothing = config.label_smoothing
        self.items = nn.Embedding(num_items + 1, config.dim)  # the last row stands for padding

    @abc.abstractmethod
    def user_vectors(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return [rows, dim] for histories [rows, <= max_length] padded on the right; lengths >= 1."""

    def embed(self, items: Tensor) -> Tensor:
        """Return what the network reads of items [...], [..., dim]."""
        return self.items(items)

    def table(self) -> Tensor:
        """Return `embed` of every item and of padding, [items + 1, dim]."""
        return self.items.weight

    def item_vectors(self) -> Tensor:
        """Return the item table without its padding row, normalised where a temperature is set."""
        return self._scaled(self.table()[: self.num_items])

    def _scaled(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self.temperature else vectors

    def directions(self, vectors: Tensor) -> Tensor:
        """Return [..., dim] normalised and divided by the temperature where one is set."""
        return self._scaled(vectors) / (self.temperature or 1.0)

    def objective(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of predicting the items `targets` [n] by `vectors` [n, dim]."""
        if self.is_binary:
            negatives = torch.randint(self.num_items, targets.shape, device=targets.device)
            return losses.binary_cross_entropy(vectors, self.item_vectors(), targets, negatives)
        if 0 < self.negatives < self.num_items:
            negatives = torch.randperm(self.num_items, device=targets.device)[: self.negatives]
            used, index = torch.unique(torch.cat([targets, negatives]), return_inverse=True)
            of_targets, of_negatives = index.split([len(targets), len(negatives)])
            table = self._scaled(self.embed(used))
            return losses.sampled_softmax(vectors, table, of_targets, of_negatives, self.num_items)
        return losses.full_softmax(vectors.float(), self.item_vectors(), targets, self.smoothing)

    def recommender(self) -> "NetworkRecommender":
        """Return the recommender that ranks by this network's scores."""
        return NetworkRecommender(self)


class NextItemNetwork(ItemNetwork):
    """Predicts each item from those before it."""

    def training_sequences(self, histories: Histories) -> Histories:
        """Return windows of the histories, or every prefix as a sequence of its own."""
        cut = Histories.prefixes if self.prefixes else Histories.windows
        return cut(histories, self.max_length + 1)

    @abc.abstractmethod
    def encode(self, items: Tensor, at: Tensor | None = None) -> Tensor:
        """Return the causal states of `items`: [rows, length, dim], or [rows, dim] at positions `at`."""

    def user_vectors(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the states of the last item of each history."""
        return self.directions(self.encode(items, lengths - 1))

    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean loss of the next items, of a prefix the last one."""
        inputs, targets = items[:, :-1], items[:, 1:]
        if self.prefixes:
            last = targets.gather(1, lengths[:, None] - 2)[:, 0]
            return self.objective(self.user_vectors(inputs, lengths - 1), last)
        real = targets != self.num_items
        return self.objective(self.directions(self.encode(inputs))[real], targets[real])


class NetworkRecommender(Scorer):
    """Scores of a trained network."""

    def __init__(self, network: ItemNetwork) -> None:
        self.network, self.num_items = network.eval(), network.num_items
        self.table = network.item_vectors().detach()

    @torch.no_grad()
    def scores(self, histories: Histories) -> Tensor:
        """Return user vectors times item vectors; an empty history scores 0 everywhere."""
        latest = histories.last(self.network.max_length)
        users = self.table.new_zeros(len(latest), self.table.shape[1])
        order = np.argsort(latest.lengths, kind="stable")
        for rows in np.array_split(order, max(1, len(order) // 256)):
            rows = rows[latest.lengths[rows] > 0]
            if len(rows):
                batch = pad(latest.take(rows), self.num_items, self.table.device)
                users[torch.from_numpy(rows).to(self.table.device)] = self.network.user_vectors(*batch)
        return users @ self.table.T


def sample_mask(items: Tensor, lengths: Tensor, share: float) -> Tensor:
    """Return a random mask of `items` [rows, length], with the last item if nothing else."""
    positions = torch.arange(items.shape[1], device=items.device)
    real = positions < lengths[:, None]
    masked = (torch.rand(items.shape, device=items.device) < share) & real
    return masked | ((positions == lengths[:, None] - 1) & ~masked.any(1, keepdim=True))


def init_weights(network: nn.Module) -> None:
    """Draw linear and embedding weights from a normal distribution, biases zero (BERT's way)."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

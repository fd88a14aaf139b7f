"""SASRec: self-attention over the history (Kang & McAuley 2018), with two losses.

"softmax" is cross-entropy over the whole catalogue (or sampled negatives), which makes SASRec a strong
baseline (Klenitskiy & Vasilev 2023); "bce" is the binary cross-entropy of section III.E.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.retrieve import losses
from components.retrieve.config import SasrecConfig
from components.retrieve.training import SequenceNetwork


class Block(nn.Module):
    """One layer of causal self-attention and a position-wise network, normalised before each."""

    def __init__(self, dim: int, heads: int, dropout: float, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.norm_attention, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map [rows, length, dim] to the same shape; padding on the right is never looked at."""
        rows, length, dim = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(
            qkv[0],
            qkv[1],
            qkv[2],
            attn_mask=mask,
            is_causal=self.causal,
            dropout_p=self.dropout if self.training else 0.0,
        )
        x = x + self.drop(self.out(attended.transpose(1, 2).reshape(rows, length, dim)))
        return x + self.drop(self.feed(self.norm_feed(x)))


class Sasrec(SequenceNetwork):
    """The network; items share one table on both sides. The table's last row stands for padding."""

    def __init__(self, num_items: int, config: SasrecConfig, loss: Literal["softmax", "bce"]) -> None:
        super().__init__()
        self.num_items, self.max_length = num_items, config.max_length
        self.kind, self.negatives, self.temperature = loss, config.negatives, config.temperature
        self.items = nn.Embedding(num_items + 1, config.dim)
        self.positions = nn.Embedding(config.max_length, config.dim)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.dim)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def hidden(self, items: Tensor) -> Tensor:
        """Return [rows, length, dim] for items [rows, length]."""
        places = torch.arange(items.shape[1], device=items.device)
        x = self.drop(self.items(items) + self.positions(places))
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return F.normalize(x, dim=-1) / self.temperature if self.temperature else x

    def user_vectors(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return what stands at the last item of each history."""
        return self.hidden(items)[torch.arange(len(items), device=items.device), lengths - 1]

    def item_vectors(self) -> Tensor:
        """Return the item table without its padding row."""
        table = self.items.weight[: self.num_items]
        return F.normalize(table, dim=-1) if self.temperature else table

    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean loss of predicting each item from those before it."""
        inputs, targets = items[:, :-1], items[:, 1:]
        real = targets != self.num_items
        hidden, targets = self.hidden(inputs)[real], targets[real]
        table = self.item_vectors()
        if self.kind == "bce":
            negatives = torch.randint(self.num_items, targets.shape, device=targets.device)
            return losses.binary(hidden, table, targets, negatives)
        if 0 < self.negatives < self.num_items - 1:
            negatives = torch.randperm(self.num_items, device=targets.device)[: self.negatives]
            return losses.sampled_softmax(hidden, table, targets, negatives)
        return losses.full_softmax(hidden.float(), table, targets)

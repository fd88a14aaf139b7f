"""SASRec: self-attention over the history (Kang & McAuley 2018, section III)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.retrieve.config import SasrecConfig
from components.retrieve.next_item import Loss, NextItemNetwork, initialise


class Block(nn.Module):
    """One layer of causal self-attention and a position-wise network, normalised before each."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map [rows, length, dim] to the same shape; padding on the right is never looked at."""
        rows, length, dim = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(
            qkv[0],
            qkv[1],
            qkv[2],
            is_causal=True,
            dropout_p=self.dropout if self.training else 0.0,
        )
        x = x + self.drop(self.out(attended.transpose(1, 2).reshape(rows, length, dim)))
        return x + self.drop(self.feed(self.norm_feed(x)))


class Sasrec(NextItemNetwork):
    """Causal self-attention over item and position embeddings."""

    def __init__(self, num_items: int, config: SasrecConfig, loss: Loss = "softmax") -> None:
        super().__init__(num_items, config, loss)
        self.positions = nn.Embedding(config.max_length, config.dim)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.dim)
        initialise(self)

    def encode(self, items: Tensor) -> Tensor:
        """Return [rows, length, dim] for items [rows, length]."""
        places = torch.arange(items.shape[1], device=items.device)
        x = self.drop(self.items(items) + self.positions(places))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

"""The self-attention layers that SASRec, BERT4Rec, FDSA, S3-Rec and TIGER share.

Normalised as in BERT: the embeddings, then the sum after each sublayer. SASRec's paper normalises before a
sublayer; the latest item's embedding, small as it begins, is then lost beside what the layers add to it. On
Amazon Beauty that costs a fifth of NDCG@10.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """One layer of self-attention and a position-wise network, normalised after each."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """Map [rows, length, dim] to the same shape; `seen` as in `Encoder`."""
        rows, length, dim = x.shape
        qkv = self.qkv(x).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(
            qkv[0],
            qkv[1],
            qkv[2],
            attn_mask=None if seen is None else seen[:, None, None, :],
            is_causal=seen is None,
            dropout_p=self.dropout if self.training else 0.0,
        )
        attended = self.out(attended.transpose(1, 2).reshape(rows, length, dim))
        x = self.norm_attention(x + self.drop(attended))
        return self.norm_feed(x + self.drop(self.feed(x)))


class Encoder(nn.Module):
    """Layers of self-attention over embeddings of at most `length` places, padded on the right."""

    def __init__(self, length: int, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.positions = nn.Embedding(length, dim)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Map [rows, length, dim] to the same shape.

        Without `seen` a place sees itself and those before it (so padding on the right is never looked
        at); with it, [rows, length] of bool, every place sees the places that are True.
        """
        x = self.drop(self.norm(x + self.positions(torch.arange(x.shape[1], device=x.device))))
        for block in self.blocks:
            x = block(x, seen)
        return x

"""The self-attention layers that SASRec, BERT4Rec, FDSA, S3-Rec and TIGER share.

Two things differ from SASRec's paper. It normalises before a sublayer, we after it and the embeddings, like
BERT: the latest item's embedding, small as it begins, is else lost beside what the layers add to it. And it
learns an embedding of each absolute place, we how much a distance matters (Raffel et al. 2020, section 2.1):
users are asked about longer histories than they were learnt from, at places that few had reached.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """One layer of self-attention over at most `length` places and a position-wise network."""

    def __init__(self, length: int, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.distances = nn.Parameter(torch.zeros(heads, 2 * length - 1))
        self.length = length
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor | None, at: Tensor | None = None) -> Tensor:
        """Map [rows, length, dim] to the same shape, with `at` to [rows, 1, dim]; both as in `Encoder`."""
        rows, length, dim = x.shape
        keys, values = self._project(x, dim, 3 * dim).chunk(2, -1)
        if at is not None:
            x = x[torch.arange(rows, device=x.device), at][:, None]
        attended = F.scaled_dot_product_attention(
            self._split(self._project(x, 0, dim)),
            self._split(keys),
            self._split(values),
            attn_mask=self._weights(length, seen, at).to(keys.dtype),
            dropout_p=self.dropout if self.training else 0.0,
        )
        attended = self.out(attended.transpose(1, 2).reshape(x.shape))
        x = self.norm_attention(x + self.drop(attended))
        return self.norm_feed(x + self.drop(self.feed(x)))

    def _project(self, x: Tensor, low: int, high: int) -> Tensor:
        """Return queries, keys and values of `x`, those from `low` to `high` of their width together."""
        return F.linear(x, self.qkv.weight[low:high], self.qkv.bias[low:high])

    def _split(self, x: Tensor) -> Tensor:
        """Return [rows, heads, length, width] of [rows, length, dim]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _weights(self, length: int, seen: Tensor | None, at: Tensor | None) -> Tensor:
        """Return what a place adds to the attention of one asked, [rows or 1, heads, asked, length]."""
        places = torch.arange(length, device=self.distances.device)
        asked = places[None] if at is None else at[:, None]
        apart = asked[..., None] - places
        # Unlike indexing, an embedding sums up its gradient in the same order every time.
        weights = F.embedding(apart + self.length - 1, self.distances.T).permute(0, 3, 1, 2)
        hidden = (apart < 0)[:, None] if seen is None else ~seen[:, None, None, :]
        return weights.masked_fill(hidden, -torch.inf)


class Encoder(nn.Module):
    """Layers of self-attention over embeddings of at most `length` places, padded on the right."""

    def __init__(self, length: int, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(length, dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, seen: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """Map [rows, length, dim] to the same shape; with `at` [rows] to those places alone, [rows, dim].

        Without `seen` a place sees itself and those before it (so padding on the right is never looked
        at); with it, [rows, length] of bool, every place sees the places that are True.
        """
        x = self.drop(self.norm(x))
        *first, last = self.blocks
        for block in first:
            x = block(x, seen)
        x = last(x, seen, at)
        return x if at is None else x[:, 0]

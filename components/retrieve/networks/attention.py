"""Self-attention layers of SASRec, BERT4Rec, FDSA, S3-Rec and TIGER.

Two things differ from SASRec's paper. Layers are normalised after a sublayer and after the embeddings, like
BERT's: normalised before, the latest item's embedding, small at first, is lost beside what layers add to it.
And a learnt bias per distance (Raffel et al. 2020, section 2.1) replaces position embeddings: test histories
are longer than training histories and reach positions that were hardly trained.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """One layer of self-attention over at most `length` positions and a position-wise network."""

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

    def forward(self, x: Tensor, visible: Tensor | None, at: Tensor | None = None) -> Tensor:
        """Map [rows, length, dim] to itself, or with `at` to [rows, 1, dim]; see `Encoder`."""
        x = self.attend(x, visible, at)
        return self.norm_feed(x + self.drop(self.feed(x)))

    def attend(self, x: Tensor, visible: Tensor | None, at: Tensor | None) -> Tensor:
        """Return `x` after self-attention, of the shape that `forward` returns."""
        rows, length, dim = x.shape
        keys, values = self._project(x, dim, 3 * dim).chunk(2, -1)
        if at is not None:
            x = x[torch.arange(rows, device=x.device), at][:, None]
        attended = F.scaled_dot_product_attention(
            self._split(self._project(x, 0, dim)),
            self._split(keys),
            self._split(values),
            attn_mask=self._bias(length, visible, at).to(keys.dtype),
            dropout_p=self.dropout if self.training else 0.0,
        )
        attended = self.out(attended.transpose(1, 2).reshape(x.shape))
        return self.norm_attention(x + self.drop(attended))

    def _project(self, x: Tensor, low: int, high: int) -> Tensor:
        """Return columns `low` to `high` of the queries, keys and values of `x`."""
        return F.linear(x, self.qkv.weight[low:high], self.qkv.bias[low:high])

    def _split(self, x: Tensor) -> Tensor:
        """Return [rows, heads, length, width] of [rows, length, dim]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _bias(self, length: int, visible: Tensor | None, at: Tensor | None) -> Tensor:
        """Return what is added to the attention logits, [rows or 1, heads, queries, length]."""
        positions = torch.arange(length, device=self.distances.device)
        queries = positions[None] if at is None else at[:, None]
        distance = queries[..., None] - positions
        # Unlike indexing, an embedding sums up its gradient in the same order every time.
        bias = F.embedding(distance + self.length - 1, self.distances.T).permute(0, 3, 1, 2)
        masked = (distance < 0)[:, None] if visible is None else ~visible[:, None, None, :]
        return bias.masked_fill(masked, -torch.inf)


class Encoder(nn.Module):
    """Layers of self-attention over embeddings of at most `length` positions, padded on the right."""

    def __init__(self, length: int, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(length, dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, visible: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """Map [rows, length, dim] to itself, or to [rows, dim] at positions `at`.

        Attention is causal, or with `visible`, bool [rows, length], to the positions that are True.
        """
        x = self.drop(self.norm(x))
        *first, last = self.blocks
        for block in first:
            x = block(x, visible)
        x = last(x, visible, at)
        return x if at is None else x[:, 0]

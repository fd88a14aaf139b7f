"""BSARec: self-attention beside a filter that rescales high frequencies (Shin et al. 2024, section 4).

Simplified: attention sees the whole prefix, of which the last position alone is trained and asked.
"""

import torch
from torch import Tensor, nn

from components.retrieve.model_config import BsarecConfig
from components.retrieve.networks.attention import Block, Encoder
from components.retrieve.networks.item_network import NextItemNetwork, init_weights


class FrequencyRescaler(nn.Module):
    """Scales what lies above the lowest `cutoff` frequencies of `length` positions (equations 7 and 8).

    Leaving out the higher frequencies is a circular convolution, so a product with a matrix of distances
    does it for sequences of any length, as if zeros filled them up.
    """

    kernel: Tensor

    def __init__(self, length: int, dim: int, cutoff: int, dropout: float) -> None:
        super().__init__()
        kept = torch.arange(length // 2 + 1) < cutoff
        self.register_buffer("kernel", torch.fft.irfft(kept.to(torch.complex128), n=length).float())
        self.beta = nn.Parameter(torch.randn(dim))
        self.norm, self.drop = nn.LayerNorm(dim), nn.Dropout(dropout)

    def forward(self, x: Tensor, queries: Tensor) -> Tensor:
        """Return [rows, queries, dim] of [rows, <= length, dim] at positions `queries` [rows, queries]."""
        distance = queries[..., None] - torch.arange(x.shape[1], device=x.device)
        low = self.kernel[distance % len(self.kernel)] @ x
        here = x.gather(1, queries[..., None].expand(-1, -1, x.shape[2]))
        return self.norm(here + self.drop(low + self.beta.square() * (here - low)))


class FrequencyBlock(Block):
    """A layer that weighs the rescaled frequencies by `alpha` against self-attention (equation 10)."""

    def __init__(self, config: BsarecConfig) -> None:
        super().__init__(config.max_length, config.dim, config.heads, config.dropout)
        self.rescale = FrequencyRescaler(config.max_length, config.dim, config.cutoff, config.dropout)
        self.alpha = config.alpha

    def attend(self, x: Tensor, visible: Tensor | None, at: Tensor | None) -> Tensor:
        """Return the mixture, of the shape that `forward` returns."""
        x = x if visible is None else x * visible[..., None]
        positions = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        rescaled = self.rescale(x, positions if at is None else at[:, None])
        return self.alpha * rescaled + (1 - self.alpha) * super().attend(x, visible, at)


class Bsarec(NextItemNetwork):
    """SASRec with layers of both kinds."""

    def __init__(self, num_items: int, config: BsarecConfig) -> None:
        super().__init__(num_items, config)
        self.encoder = Encoder(config.max_length, config.dim, config.layers, config.heads, config.dropout)
        self.encoder.blocks = nn.ModuleList(FrequencyBlock(config) for _ in range(config.layers))
        init_weights(self)

    def encode(self, items: Tensor, at: Tensor | None = None) -> Tensor:
        """Return [rows, length, dim] for items [rows, length], or [rows, dim] at positions `at`."""
        return self.encoder(self.embed(items), items != self.num_items, at)

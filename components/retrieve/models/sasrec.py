"""SASRec: self-attention over the history (Kang & McAuley 2018, section III)."""

from torch import Tensor

from components.retrieve.model_config import SasrecConfig
from components.retrieve.networks.attention import Encoder
from components.retrieve.networks.item_network import NextItemNetwork, init_weights


class Sasrec(NextItemNetwork):
    """Causal self-attention over item embeddings; `extra` positions beyond the longest history."""

    def __init__(self, num_items: int, config: SasrecConfig, is_binary: bool = False, extra: int = 0) -> None:
        super().__init__(num_items, config, is_binary)
        length = config.max_length + extra
        self.encoder = Encoder(length, config.dim, config.layers, config.heads, config.dropout)
        init_weights(self)

    def encode(self, items: Tensor, at: Tensor | None = None) -> Tensor:
        """Return [rows, length, dim] for items [rows, length], or [rows, dim] at positions `at`."""
        return self.encoder(self.embed(items), at=at)

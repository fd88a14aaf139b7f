"""SASRec: self-attention over the history (Kang & McAuley 2018, section III)."""

from torch import Tensor

from components.retrieve.config import SasrecConfig
from components.retrieve.networks.attention import Encoder
from components.retrieve.networks.next_item import Loss, NextItemNetwork, initialise


class Sasrec(NextItemNetwork):
    """Causal self-attention over item and position embeddings."""

    def __init__(self, num_items: int, config: SasrecConfig, loss: Loss = "softmax") -> None:
        super().__init__(num_items, config, loss)
        self.encoder = Encoder(config.max_length, config.dim, config.layers, config.heads, config.dropout)
        initialise(self)

    def encode(self, items: Tensor, at: Tensor | None = None) -> Tensor:
        """Return [rows, length, dim] for items [rows, length], or [rows, dim] at the places `at`."""
        return self.encoder(self.items(items), at=at)

"""SASRec whose item vectors are an id embedding plus a linear map of the item's sentence embedding."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.retrieve.model_config import SasrecConfig
from components.retrieve.models.sasrec import Sasrec
from components.retrieve.networks.item_network import init_weights


def centred(vectors: Tensor) -> Tensor:
    """Return `vectors` [items, width] without their mean, of length 1.

    Sentence embeddings share a mean, beside which what tells two items apart is small. Rows of 0 stay 0 and
    do not count.
    """
    is_known = vectors.any(1)
    known = vectors[is_known].double()
    apart = F.hardshrink(known - known.mean(0), 1e-7)  # where texts are alike, only rounding is left
    result = torch.zeros_like(vectors)
    result[is_known] = F.normalize(apart, dim=1).to(vectors.dtype)
    return result


class SasrecText(Sasrec):
    """Knows rare items by their text; one whose vector is 0 has its id alone."""

    vectors: Tensor

    def __init__(self, vectors: Tensor, config: SasrecConfig) -> None:
        """`vectors` are [items, width]."""
        super().__init__(len(vectors), config)
        padding = vectors.new_zeros(1, vectors.shape[1])
        # The step computes them anew for a resumed training: a checkpoint holds what was learnt.
        self.register_buffer("vectors", torch.cat([vectors, padding]), persistent=False)
        self.of_text = nn.Linear(vectors.shape[1], config.dim, bias=False)
        init_weights(self.of_text)

    def embed(self, items: Tensor) -> Tensor:
        """Return [..., dim] for items [...]."""
        return self.items(items) + self.of_text(self.vectors[items])

    def table(self) -> Tensor:
        """Return the vectors of all items and of padding, [items + 1, dim]."""
        return self.items.weight + self.of_text(self.vectors)

"""SASRec whose item vectors also hold the item's brand, category and text (a sentence embedding)."""

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
    """Adds embeddings of its kinds and a map of its text to an item's embedding.

    So rare items are known by what they share with others. One that has neither has its id alone.
    """

    vectors: Tensor
    kinds: Tensor

    def __init__(self, vectors: Tensor, kinds: Tensor, config: SasrecConfig) -> None:
        """`vectors` are [items, width], `kinds` [items, 2] numbers of one table, 0 for none."""
        super().__init__(len(vectors), config)
        # The step computes both anew for a resumed training: a checkpoint holds what was learnt.
        for name, facts in (("vectors", vectors), ("kinds", kinds)):
            padding = facts.new_zeros(1, facts.shape[1])
            self.register_buffer(name, torch.cat([facts, padding]), persistent=False)
        self.of_text = nn.Linear(vectors.shape[1], config.dim, bias=False)
        self.of_kind = nn.Embedding(int(self.kinds.max()) + 1, config.dim, padding_idx=0)
        init_weights(self.of_text)
        init_weights(self.of_kind)
        nn.init.zeros_(self.of_kind.weight[0])

    def embed(self, items: Tensor) -> Tensor:
        """Return [..., dim] for items [...]."""
        return self.items(items) + self._facts(self.vectors[items], self.kinds[items])

    def table(self) -> Tensor:
        """Return the vectors of all items and of padding, [items + 1, dim]."""
        return self.items.weight + self._facts(self.vectors, self.kinds)

    def _facts(self, vectors: Tensor, kinds: Tensor) -> Tensor:
        return self.of_text(vectors) + self.of_kind(kinds).sum(-2)

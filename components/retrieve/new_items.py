"""Places in a candidate list for items that no train part holds: no behaviour can bring them there."""

import numpy as np
import numpy.typing as npt
import torch

from components.retrieve.content import Content
from components.retrieve.interactions import Examples, Histories, Interactions
from components.retrieve.ranking import Ranked, Scorer


class Newcomers(Scorer):
    """Orders the items at `new` [items] of bool by `content`; all others are left out."""

    def __init__(self, content: Content, new: npt.NDArray[np.bool_]) -> None:
        self.content, self.num_items = content, content.num_items
        self.known = torch.from_numpy(~new)

    def scores(self, histories: Histories) -> torch.Tensor:
        """Return the content's scores, -inf for items that are not new."""
        return self.content.scores(histories).masked_fill(self.known, -torch.inf)


def with_newcomers(
    ranked: Ranked, asked: Examples, data: Interactions, newcomers: Newcomers, slots: int, wanted: int
) -> Ranked:
    """Return `ranked` with the nearest new items at the last `slots` of the first `wanted` places.

    What stood there moves behind. An item is new to nobody before it was created: a question asked earlier
    does not get it. Lists shorter than `wanted` get their new items at the end.
    """
    best = newcomers.answer(asked, slots)
    if len(data.created):
        early = data.created[best.items] > data.asked_at(asked)[:, None]
        best.items[early | (best.items < 0)] = -1
    depth = ranked.items.shape[1]
    result = Ranked.nothing(len(ranked), depth)
    for row in range(len(ranked)):
        fresh = best.items[row][best.items[row] >= 0]
        listed = ranked.items[row]
        others = np.flatnonzero((listed >= 0) & ~np.isin(listed, fresh))
        cut = max(0, min(wanted - len(fresh), len(others)))
        joined = np.concatenate([listed[others[:cut]], fresh, listed[others[cut:]]])[:depth]
        score = ranked.scores[row][others]
        level = score[cut - 1] if cut else (score[0] if len(score) else 0.0)
        scores = np.concatenate([score[:cut], np.full(len(fresh), level), score[cut:]])[:depth]
        result.items[row, : len(joined)], result.scores[row, : len(scores)] = joined, scores
    return result

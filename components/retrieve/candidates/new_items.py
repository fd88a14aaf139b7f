"""Places in a candidate list for items that no train part holds: no behaviour can bring them there."""

import numpy as np
import numpy.typing as npt
import torch

from components.retrieve.interactions import Examples, Histories, Interactions, Ints
from components.retrieve.models.content import Content
from components.retrieve.ranking import Ranked, blocks, top_unseen


class Newcomers:
    """Finds the items at `new` [items] of bool, at least one, that are nearest to a history by `content`."""

    def __init__(self, data: Interactions, content: Content, new: npt.NDArray[np.bool_]) -> None:
        self.data, self.content = data, content
        self.items = np.flatnonzero(new)
        self.vectors = content.vectors.index_select(0, torch.from_numpy(self.items))

    def nearest(self, asked: Examples, count: int) -> Ints:
        """Return `count` new items for each question, [rows, count], nearest first, -1 where there are less.

        An item that says nothing about the history is not near, and an item is new to nobody before it was
        created: a question asked earlier does not get it.
        """
        rows = np.arange(len(asked))
        sizes = [len(block) for block in blocks(asked.histories, len(self.items))]
        parts = np.split(rows, np.cumsum(sizes)[:-1])
        return np.concatenate([self._nearest(asked.take(part), count) for part in parts])

    def _nearest(self, asked: Examples, count: int) -> Ints:
        scores = self.content.similarity(asked.histories, self.vectors)
        scores.masked_fill_(scores < self.content.evidence, -torch.inf)
        if len(self.data.created):
            early = self.data.created[self.items] > self.data.asked_at(asked)[:, None]
            scores.masked_fill_(torch.from_numpy(early), -torch.inf)
        places = top_unseen(scores, _places(asked.histories, self.items), count).items
        return np.where(places >= 0, self.items[places], -1)


def _places(histories: Histories, items: Ints) -> Histories:
    """Return what each history holds of `items` (sorted), as places in `items`."""
    rows, found = histories.flat()
    kept = np.isin(found, items)
    lengths = np.bincount(rows[kept], minlength=len(histories))
    ends = np.cumsum(lengths)
    return Histories(np.searchsorted(items, found[kept]), ends - lengths, ends)


def with_newcomers(ranked: Ranked, asked: Examples, newcomers: Newcomers, slots: int, wanted: int) -> Ranked:
    """Return `ranked` with the nearest new items at the last `slots` of the first `wanted` places.

    What stood there moves behind; a new item that a model ranked before them stays where it is. Lists
    shorter than `wanted` get their new items at the end.
    """
    nearest = newcomers.nearest(asked, wanted)
    depth = ranked.items.shape[1]
    result = Ranked.nothing(len(ranked), depth)
    for row in range(len(ranked)):
        listed = ranked.items[row][ranked.items[row] >= 0]
        fresh = nearest[row][(nearest[row] >= 0) & ~np.isin(nearest[row], listed[: wanted - slots])][:slots]
        others = np.flatnonzero(~np.isin(listed, fresh))
        cut = min(wanted - len(fresh), len(others))
        score = ranked.scores[row][others]
        level = score[cut - 1] if cut else 0.0
        items = np.concatenate([listed[others[:cut]], fresh, listed[others[cut:]]])[:depth]
        scores = np.concatenate([score[:cut], np.full(len(fresh), level), score[cut:]])[:depth]
        result.items[row, : len(items)], result.scores[row, : len(items)] = items, scores
    return result

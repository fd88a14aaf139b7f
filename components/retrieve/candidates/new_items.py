"""Slots of a candidate list for items without interactions in the train part."""

import numpy as np
import torch

from components.retrieve.interactions import Bools, Histories, Ints, Queries
from components.retrieve.models.content import Content
from components.retrieve.ranking import RankedLists, blocks, top_unseen


class NewItems:
    """Ranks the items of `is_new` [items] by their similarity to a history."""

    def __init__(self, content: Content, is_new: Bools, created: Ints) -> None:
        """`created` [items] are times in microseconds, or UNKNOWN_TIME."""
        self.content, self.items = content, np.flatnonzero(is_new)
        self.created = created[self.items]
        self.vectors = content.vectors.index_select(0, torch.from_numpy(self.items))

    def nearest(self, queries: Queries, count: int) -> Ints:
        """Return up to `count` similar items older than the query, [rows, count], padded with -1."""
        nearest = np.empty((len(queries), count), np.int64)
        for block in blocks(len(queries), len(self.items)):
            part = queries.take(block)
            scores = self.content.similarity(part.histories, self.vectors)
            too_early = self.created > part.times[:, None]
            excluded = torch.from_numpy(too_early) | (scores < self.content.vote_threshold)
            rows, seen = part.histories.flat()
            is_new = np.isin(seen, self.items)
            lengths = np.bincount(rows[is_new], minlength=len(part))
            seen_new = Histories.from_lengths(np.searchsorted(self.items, seen[is_new]), lengths)
            columns = top_unseen(scores.masked_fill_(excluded, -torch.inf), seen_new, count).items
            nearest[block] = np.where(columns >= 0, self.items[columns], -1)
        return nearest

    def insert(self, lists: RankedLists, queries: Queries, slots: int, candidates: int) -> RankedLists:
        """Return `lists` with new items in the last `slots` of the first `candidates` ranks.

        The items there move behind; a new item that a model ranked before them keeps its rank. Lists
        shorter than `candidates` get their new items at the end.
        """
        new = self.nearest(queries, candidates)
        before = lists.items[:, : candidates - slots]
        is_new = (new >= 0) & ~(new[:, :, None] == before[:, None, :]).any(2)
        is_new &= np.cumsum(is_new, axis=1) <= slots
        new = np.where(is_new, new, -1)
        is_other = (lists.items >= 0) & ~(lists.items[:, :, None] == new[:, None, :]).any(2)
        counts = is_new.sum(1, keepdims=True)
        cut = np.minimum(candidates - counts, is_other.sum(1, keepdims=True))
        rank = np.cumsum(is_other, axis=1) - 1
        last = np.where(is_other & (rank == cut - 1), lists.scores, 0).sum(1, keepdims=True)
        parts = (
            (lists.items, lists.scores, is_other, np.where(rank < cut, rank, rank + counts)),
            (new, np.broadcast_to(last, new.shape), is_new, cut + np.cumsum(is_new, axis=1) - 1),
        )
        result = RankedLists.empty(*lists.items.shape)
        for items, scores, is_kept, place in parts:
            rows, columns = np.nonzero(is_kept & (place < result.items.shape[1]))
            at = rows, place[rows, columns]
            result.items[at], result.scores[at] = items[rows, columns], scores[rows, columns]
        return result

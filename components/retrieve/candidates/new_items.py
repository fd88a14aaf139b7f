"""Slots of a candidate list for items without interactions in the train part."""

import numpy as np
import torch

from components.retrieve.interactions import Bools, Histories, Interactions, Ints, Queries
from components.retrieve.models.content import Content
from components.retrieve.ranking import RankedLists, blocks, top_unseen


class NewItems:
    """Ranks the items of `is_new` [items] by their similarity to a history."""

    def __init__(self, data: Interactions, content: Content, is_new: Bools) -> None:
        self.data, self.content = data, content
        self.items = np.flatnonzero(is_new)
        self.vectors = content.vectors.index_select(0, torch.from_numpy(self.items))

    def nearest(self, queries: Queries, count: int) -> Ints:
        """Return up to `count` similar items older than the query, [rows, count], padded with -1."""
        nearest = np.empty((len(queries), count), np.int64)
        for block in blocks(len(queries), len(self.items)):
            part = queries.take(block)
            scores = self.content.similarity(part.histories, self.vectors)
            too_early = self.data.created[self.items] > self.data.query_times(part)[:, None]
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
        depth = lists.items.shape[1]
        result = RankedLists.empty(len(queries), depth)
        for row, nearest in enumerate(self.nearest(queries, candidates)):
            listed = lists.items[row][lists.items[row] >= 0]
            new = nearest[(nearest >= 0) & ~np.isin(nearest, listed[: candidates - slots])][:slots]
            others = np.flatnonzero(~np.isin(listed, new))
            cut = min(candidates - len(new), len(others))
            score = lists.scores[row][others]
            level = score[cut - 1] if cut else 0.0
            items = np.concatenate([listed[others[:cut]], new, listed[others[cut:]]])[:depth]
            scores = np.concatenate([score[:cut], np.full(len(new), level), score[cut:]])[:depth]
            result.items[row, : len(items)], result.scores[row, : len(items)] = items, scores
        return result

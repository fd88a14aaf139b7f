"""Lists from outside: what an online system showed, or what a retrieval system of the user's own found."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.retrieve.interactions import Examples, Histories, Interactions, Ints
from components.retrieve.ranking import Ranked, Recommender

UNKNOWN_ITEM = -1


@dataclass(frozen=True)
class Exposures(Recommender):
    """Answers a question with the user's latest list that was made no later than the label's time.

    `lists` [lists] hold item indices in the order shown, UNKNOWN_ITEM for items that the catalogue lacks;
    they are sorted by `users` (row numbers) and `times` (microseconds).
    """

    data: Interactions
    users: Ints
    times: Ints
    lists: Histories

    def answer(self, asked: Examples, depth: int) -> Ranked:
        """Return the lists without what the history holds; a user without a list by then gets none.

        A list made after the label's time would tell what came later, so it is never used.
        """
        found = self._latest(asked)
        rows, items = self.lists.take(np.maximum(found, 0)).flat()
        seen_rows, seen = asked.histories.flat()
        keys, width = rows * self.data.num_items + items, self.data.num_items
        usable = (found[rows] >= 0) & (items != UNKNOWN_ITEM)
        usable &= ~np.isin(keys, seen_rows * width + seen)
        first = np.zeros(len(keys), bool)
        first[np.unique(np.where(usable, keys, UNKNOWN_ITEM), return_index=True)[1]] = True
        rows, items = rows[usable & first], items[usable & first]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        rows, items, place = rows[place < depth], items[place < depth], place[place < depth]
        ranked = Ranked.nothing(len(asked), depth)
        ranked.items[rows, place], ranked.scores[rows, place] = items, 1.0 / (1 + place)
        return ranked

    def _latest(self, asked: Examples) -> Ints:
        """Return the number of each question's list, -1 where there is none."""
        moments, rank = np.unique(self.times, return_inverse=True)
        until = np.searchsorted(moments, self.data.asked_at(asked), side="right") - 1
        width = len(moments) + 1  # one more: before all moments
        made = self.users * width + 1 + rank
        place = np.searchsorted(made, asked.users * width + 1 + until, side="right") - 1
        return np.where(place >= np.searchsorted(self.users, asked.users), place, -1)


def load_exposures(path: Path, data: Interactions) -> Exposures | None:
    """Read the table EXPOSURES, the lists of users without a sequence left out; None if no list is left."""
    table = pq.read_table(path, columns=["user_id", "timestamp", "item_ids"])
    users = pc.index_in(table["user_id"], value_set=pa.array(data.user_ids))
    table = table.append_column("user", users).filter(pc.is_valid(users))
    table = table.sort_by([("user", "ascending"), ("timestamp", "ascending")]).combine_chunks()
    if not table.num_rows:
        return None
    lists = table["item_ids"].combine_chunks()
    items = pc.fill_null(pc.index_in(lists.flatten(), value_set=pa.array(data.item_ids)), UNKNOWN_ITEM)
    ends = np.cumsum(pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64))
    return Exposures(
        data=data,
        users=table["user"].to_numpy().astype(np.int64),
        times=table["timestamp"].cast(pa.int64()).to_numpy(),
        lists=Histories(items.to_numpy().astype(np.int64), np.r_[0, ends[:-1]], ends),
    )

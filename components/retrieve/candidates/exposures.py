"""Exposures: lists that an online system showed or an external retrieval system found."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from components.retrieve.interactions import Histories, Interactions, Ints, Queries
from components.retrieve.ranking import RankedLists, Recommender
from components.retrieve.tables import microseconds
from components.shared.errors import DataError

UNKNOWN_ITEM = -1
BLOCK = 1 << 16
"""Queries per block."""


@dataclass(frozen=True)
class Exposures(Recommender):
    """Recommends the user's latest list made no later than the label.

    A later list may reveal the label. `lists` hold item indices in the order shown, UNKNOWN_ITEM for items
    that the catalogue lacks; they are sorted by `users`, then `times` (microseconds). `known_share` is the
    share of items in the catalogue.
    """

    data: Interactions
    users: Ints
    times: Ints
    lists: Histories
    known_share: float

    def recommend(self, queries: Queries, depth: int) -> RankedLists:
        """Return the lists without seen items; empty for users without a list by then."""
        ranked = RankedLists.empty(len(queries), depth)
        for start in range(0, len(queries), BLOCK):
            rows, items = self._unseen(queries.take(slice(start, start + BLOCK)))
            rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
            rows, items, rank = (column[rank < depth] for column in (rows, items, rank))
            ranked.items[start + rows, rank], ranked.scores[start + rows, rank] = items, 1 / (1 + rank)
        return ranked

    def _unseen(self, queries: Queries) -> tuple[Ints, Ints]:
        """Return (rows, items): the known and unseen items of each query's list, in its order."""
        latest, num_items = self.latest(queries), self.data.num_items
        listed = np.flatnonzero(latest >= 0)
        rows, items = self.lists.take(latest[listed]).flat()
        rows, seen_rows, seen = listed[rows], *queries.histories.flat()
        is_seen = np.isin(rows * num_items + items, seen_rows * num_items + seen)
        is_repeated = pd.DataFrame({"row": rows, "item": items}).duplicated().to_numpy()
        usable = (items != UNKNOWN_ITEM) & ~is_seen & ~is_repeated
        return rows[usable], items[usable]

    def latest(self, queries: Queries) -> Ints:
        """Return the index [rows] in `lists` of each query's latest list, -1 without one."""
        moments, keys = self._by_time
        asked = queries.users * len(moments) + np.searchsorted(moments, queries.times, "right") - 1
        latest = np.searchsorted(keys, asked, "right") - 1
        return np.where((latest >= 0) & (self.users[latest] == queries.users), latest, -1)

    @cached_property
    def _by_time(self) -> tuple[Ints, Ints]:
        """Return the distinct times, sorted, and a number per list, by (user, time)."""
        moments, ranks = np.unique(self.times, return_inverse=True)
        return moments, self.users * len(moments) + ranks


def load_exposures(path: Path, data: Interactions) -> Exposures | None:
    """Return the EXPOSURES of users with a sequence, None without any. Raises DataError."""
    user_ids, item_ids = pa.array(data.user_ids), pa.array(data.item_ids)
    users, times, lengths, items, example = [], [], [], [], "they are empty"
    try:
        batches = ds.dataset(str(path), format="parquet").to_batches(["user_id", "timestamp", "item_ids"])
        for batch in batches:  # ids become integers batch by batch: their text is most of the table
            rows = pc.index_in(batch["user_id"], value_set=user_ids)
            batch, rows = batch.filter(pc.is_valid(rows)), rows.drop_null()
            shown = batch["item_ids"].flatten()
            users.append(rows.to_numpy())
            times.append(microseconds(batch["timestamp"], path, "timestamp").to_numpy())
            lengths.append(pc.fill_null(batch["item_ids"].value_lengths(), 0).to_numpy())
            items.append(pc.fill_null(pc.index_in(shown, value_set=item_ids), UNKNOWN_ITEM).to_numpy())
            example = f"such as {shown[0].as_py()!r}" if len(shown) else example
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not the table exposures ({error}); run the step before this one") from error
    if not sum(map(len, users)):
        return None
    user, time, item = (np.concatenate(parts).astype(np.int64) for parts in (users, times, items))
    if (item == UNKNOWN_ITEM).all():
        raise DataError(
            f"{path}: no item of any list is in the catalogue, {example}; lists must hold the "
            'item_id of the table items (in CSV separated by "|")'
        )
    lists = Histories.from_lengths(item, np.concatenate(lengths))
    order = _order(user, time, lists)
    known_share = float((item != UNKNOWN_ITEM).mean())
    return Exposures(data, user[order], time[order], lists.take(order), known_share)


def _order(users: Ints, times: Ints, lists: Histories) -> Ints:
    """Return the order by user and time, ties by items, whatever the rows' order."""
    tied = np.flatnonzero(pd.DataFrame({"user": users, "time": times}).duplicated(keep=False))
    by_items = np.zeros(len(users), np.int64)
    # Big-endian bytes sort like the numbers and take a fifth of what tuples take.
    items = pd.Series([lists[row].astype(">i8").tobytes() for row in tied.tolist()], dtype=object)
    by_items[tied] = pd.factorize(items, sort=True)[0]
    return np.lexsort((by_items, times, users))

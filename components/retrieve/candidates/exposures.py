"""Lists from outside: what an online system showed, or what a retrieval system of the user's own found."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from components.retrieve.interactions import Examples, Histories, Interactions, Ints, microseconds
from components.retrieve.ranking import Ranked, Recommender
from components.shared.errors import DataError

UNKNOWN_ITEM = -1
BLOCK = 1 << 16
"""Questions that are answered at a time."""


@dataclass(frozen=True)
class Exposures(Recommender):
    """Answers a question with the user's latest list that was made no later than the label's time.

    `lists` [lists] hold item indices in the order shown, UNKNOWN_ITEM for items that the catalogue lacks;
    they are sorted by `users` (row numbers) and `times` (microseconds). `known_share` is the share of the
    other items.
    """

    data: Interactions
    users: Ints
    times: Ints
    lists: Histories
    known_share: float

    def answer(self, asked: Examples, depth: int) -> Ranked:
        """Return the lists without what the history holds; a user without a list by then gets none.

        A list made after the label's time would tell what came later, so it is never used.
        """
        ranked = Ranked.nothing(len(asked), depth)
        for start in range(0, len(asked), BLOCK):
            rows, items = self._usable(asked.take(np.arange(start, min(start + BLOCK, len(asked)))))
            place = np.arange(len(rows)) - np.searchsorted(rows, rows)
            rows, items, place = (one[place < depth] for one in (rows, items, place))
            ranked.items[start + rows, place], ranked.scores[start + rows, place] = items, 1 / (1 + place)
        return ranked

    def listed(self, asked: Examples) -> npt.NDArray[np.bool_]:
        """Return whether there was a list by the label's time, [rows]."""
        return self._latest(asked) >= 0

    def _usable(self, asked: Examples) -> tuple[Ints, Ints]:
        """Return (rows, items): what is known and unseen of each question's list, each once, in its order."""
        latest, width = self._latest(asked), self.data.num_items
        answered = np.flatnonzero(latest >= 0)
        rows, items = self.lists.take(latest[answered]).flat()
        rows, seen_rows, seen = answered[rows], *asked.histories.flat()
        keys = rows * width + items
        usable = np.flatnonzero((items != UNKNOWN_ITEM) & ~np.isin(keys, seen_rows * width + seen))
        first = np.sort(usable[np.unique(keys[usable], return_index=True)[1]])
        return rows[first], items[first]

    def _latest(self, asked: Examples) -> Ints:
        """Return the number of each question's list, -1 where there is none."""
        moments, made = self._made
        until = np.searchsorted(moments, self.data.asked_at(asked), side="right") - 1
        wanted = asked.users * (len(moments) + 1) + 1 + until
        place = np.searchsorted(made, wanted, side="right") - 1
        return np.where(place >= np.searchsorted(self.users, asked.users), place, -1)

    @cached_property
    def _made(self) -> tuple[Ints, Ints]:
        """The distinct times, sorted, and of each list user and time as one number, ascending."""
        moments, rank = np.unique(self.times, return_inverse=True)
        width = len(moments) + 1  # one more: before all moments
        return moments, self.users * width + 1 + rank


def load_exposures(path: Path, data: Interactions) -> Exposures | None:
    """Read the table EXPOSURES, the lists of users without a sequence left out; None if no list is left.

    Raises:
        DataError: the table is missing or unreadable, or lacks a column; or no item of any list is in the
            catalogue.
    """
    user_ids, item_ids = pa.array(data.user_ids), pa.array(data.item_ids)
    users, times, lengths, items, strange = [], [], [], [], ""
    try:
        batches = ds.dataset(str(path), format="parquet").to_batches(["user_id", "timestamp", "item_ids"])
        for batch in batches:  # ids become integers batch by batch: their text is most of the table
            known = pc.index_in(batch["user_id"], value_set=user_ids)
            batch, known = batch.filter(pc.is_valid(known)), known.drop_null()
            found = pc.index_in(batch["item_ids"].flatten(), value_set=item_ids)
            users.append(known.to_numpy())
            times.append(microseconds(batch["timestamp"], path, "timestamp").to_numpy())
            lengths.append(pc.fill_null(batch["item_ids"].value_lengths(), 0).to_numpy())
            items.append(pc.fill_null(found, UNKNOWN_ITEM).to_numpy())
            if len(found) and found.null_count == len(found):
                strange = strange or batch["item_ids"].flatten()[0].as_py()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not the table exposures ({error}); run the step before this one") from error
    if not sum(map(len, users)):
        return None
    who, when = np.concatenate(users).astype(np.int64), np.concatenate(times)
    ends = np.cumsum(np.concatenate(lengths).astype(np.int64))
    shown = np.concatenate(items).astype(np.int64)
    known_share = float((shown != UNKNOWN_ITEM).mean()) if len(shown) else 0.0
    if not known_share:
        such = f"such as {strange!r}" if len(shown) else "they are empty"
        raise DataError(
            f"{path}: no item of any list is in the catalogue, {such}; lists must hold the "
            'item_id of the table items (in CSV separated by "|")'
        )
    lists = Histories(shown, np.r_[0, ends[:-1]], ends)
    order = _order(who, when, lists)
    return Exposures(
        data=data, users=who[order], times=when[order], lists=lists.take(order), known_share=known_share
    )


def _order(users: Ints, times: Ints, lists: Histories) -> Ints:
    """Return the order by user and time, whatever the order of the rows: at one time, by the lists' items."""
    order = np.lexsort((times, users))
    same = (np.diff(users[order]) == 0) & (np.diff(times[order]) == 0)
    tied = order[np.r_[same, False] | np.r_[False, same]]
    held = [lists[row].astype(">i8").tobytes() for row in tied]  # bytes: a fifth of what tuples take
    place = {items: number for number, items in enumerate(sorted(set(held)))}
    by_items = np.zeros(len(users), np.int64)
    by_items[tied] = [place[items] for items in held]
    return np.lexsort((by_items, times, users))

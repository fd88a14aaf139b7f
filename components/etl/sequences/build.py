"""From events to one sequence per user, in vectorised numpy on Arrow columns (no row loops)."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pandas.util import hash_array

from components.etl.config import SequencesConfig
from components.etl.sources.readers import FILE_BIT, PLACE
from data_contracts.tables import ACTIONS, EVENT, EVENTS, SEQUENCES, TIMESTAMP

PLACED_EVENTS = EVENTS.append(pa.field(PLACE, pa.int64()))
"""EVENTS, and each row's place in the log; null where the source has no order."""
FEW_PAIRS, SORTED_SHARE = 20, 0.99  # tied neighbours in the same order of items: the file was sorted
FEW_ROWS, GROUPED = 100, 0.3  # correlation of tied rows' places with those that others give to their items


@dataclass(frozen=True, kw_only=True)
class SequenceChunk:
    """Sequences of whole users, the rows of repeated events, and counts."""

    sequences: pa.Table
    repeated: pa.Array
    dropped_users: int
    events: int
    tied_users: int  # whose test label has the time of the item before it


def without_place(events: pa.Table) -> pa.Table:
    """Return PLACED_EVENTS of files whose order means nothing: ties are broken by lot."""
    return events.drop([PLACE]).append_column(PLACE, pa.nulls(len(events), pa.int64()))


def build(events: pa.Table, config: SequencesConfig, cuts: tuple[int, int] | None = None) -> SequenceChunk:
    """Return the sequences of whole users from their events (columns of PLACED_EVENTS, in any order).

    `cuts` are the starts of validation and test of a temporal split, µs since the epoch. Users are sorted by
    id, their events by (timestamp, ordinal, place in the log), nulls first, and what is still tied by lot. A
    repeated event (same user, item, action and time) counts once. Users with too few distinct items are
    dropped.
    """
    events = events.combine_chunks()
    users, user = _ranked(single(events.column("user_id")))
    time = events.column("timestamp").cast(pa.int64()).to_numpy()
    order = _order(events, user, time)
    user, time = user[order], time[order]
    encoded = single(events.column("item_id")).dictionary_encode()
    item = encoded.indices.to_numpy(zero_copy_only=False)[order].astype(np.int64)
    action = pc.index_in(events.column("action"), pa.array(ACTIONS)).to_numpy().astype(np.int64)[order]
    fresh = _first_of_each(user, item, action, time, len(encoded.dictionary))
    repeated = pa.array(order[~fresh])
    user, item, action, time = user[fresh], item[fresh], action[fresh], time[fresh]
    dwell = single(events.column("dwell_seconds")).take(pa.array(order[fresh]))

    # A slot per distinct (user, item), numbered by its first event: user by user, in time order.
    _, first, inverse = np.unique(
        user * max(len(encoded.dictionary), 1) + item, return_index=True, return_inverse=True
    )
    by_time = np.argsort(first, kind="stable")
    slot = np.empty_like(by_time)
    slot[by_time] = np.arange(len(by_time))
    slot, first = slot[inverse], first[by_time]

    weights = np.array([config.action_weights.get(name, 0.0) for name in ACTIONS])
    seconds = np.nan_to_num(pc.fill_null(dwell, 0.0).to_numpy(zero_copy_only=False))
    dwell_share = np.clip(seconds / config.full_dwell_seconds, 0.0, 1.0)
    weight = weights[action] + config.dwell_weight * dwell_share
    engagement = np.bincount(slot, weights=weight, minlength=len(first)).astype(np.float64)
    lengths = np.bincount(user[first], minlength=len(users)) if len(first) else np.zeros(len(users), np.int64)
    keep = lengths >= config.min_interactions
    kept_slots, kept_events = keep[user[first]], keep[user]
    starts = np.cumsum(lengths) - lengths
    train_end, valid_end = lengths - 2, lengths - 1
    if cuts:
        train_end, valid_end = (
            np.bincount(user[first][time[first] < cut], minlength=len(users)) for cut in cuts
        )

    last = (starts + valid_end)[keep & (valid_end > 0) & (valid_end < lengths)]  # slots of first test labels
    lists = _offsets(lengths[keep])
    event_lists = _offsets(np.bincount(user, minlength=len(users))[keep])
    rows = pa.StructArray.from_arrays(
        [
            pa.array((slot - starts[user])[kept_events].astype(np.int32)),
            pa.array(ACTIONS).take(pa.array(action[kept_events])),
            pa.array(time[kept_events]).cast(TIMESTAMP),
            dwell.filter(pa.array(kept_events)),
        ],
        fields=list(EVENT),
    )
    item_ids = encoded.dictionary.take(pa.array(item[first][kept_slots]))
    sequences = pa.Table.from_arrays(
        [
            users.filter(pa.array(keep)),
            _lists(lists, item_ids, "item_ids"),
            _lists(lists, pa.array(time[first][kept_slots]).cast(TIMESTAMP), "timestamps"),
            _lists(lists, pa.array(engagement[kept_slots]), "engagement"),
            pa.array(train_end[keep].astype(np.int32)),
            pa.array(valid_end[keep].astype(np.int32)),
            _lists(event_lists, rows, "events"),
        ],
        schema=SEQUENCES,
    )
    return SequenceChunk(
        sequences=sequences,
        repeated=repeated,
        dropped_users=int((~keep).sum()),
        events=len(rows),
        tied_users=int((time[first[last - 1]] == time[first[last]]).sum()),
    )


def _ranked(texts: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Return the distinct `texts`, sorted, and the index of each text among them."""
    encoded = texts.dictionary_encode()
    by_name = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(by_name), dtype=np.int64)
    rank[by_name.to_numpy()] = np.arange(len(by_name))
    return encoded.dictionary.take(by_name), rank[encoded.indices.to_numpy(zero_copy_only=False)]


def _order(events: pa.Table, user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Return the rows sorted by user, time, ordinal, place and lot."""
    if not len(user):
        return np.zeros(0, dtype=np.int64)
    first = int(time.min())
    span = int(time.max()) - first + 1
    if (int(user.max()) + 1) * span < 2**63:  # one integer as key: several times as fast as two
        order = np.argsort(user * span + (time - first))
    else:
        order = np.lexsort((time, user))
    ties = np.flatnonzero(_ties(user[order], time[order]))
    tied = order[ties]
    order[ties] = tied[_tie_order(events.take(pa.array(tied)), user[tied], time[tied])]
    return order


def _tie_order(rows: pa.Table, user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Return the order of `rows`, each of which shares user and time with another.

    The item's id never decides: what is popular, or new, or a label, may well depend on it.
    """
    ordinal = pc.fill_null(rows.column("ordinal"), np.iinfo(np.int64).min).to_numpy()
    place = pc.fill_null(rows.column(PLACE), 0).to_numpy()
    items, item = _ranked(single(rows.column("item_id")))
    order = np.lexsort((place, ordinal, time, user))
    file = place >> FILE_BIT
    keys = [key[order] for key in (user, time, ordinal)]
    if _is_told_by_item(items, item[order], keys):
        place = np.zeros_like(place)
    elif file.any() and _is_told_by_item(items, item[order], [*keys, file[order]]):
        place = file
    action = _ranked(single(rows.column("action")))[1]
    dwell = pc.fill_null(rows.column("dwell_seconds"), -np.inf).to_numpy()
    return np.lexsort((dwell, action, _lots(rows), place, ordinal, time, user))


def _lots(rows: pa.Table) -> np.ndarray:
    """Return a hash of each row's user and item, [rows] uint64."""
    user, item = (
        hash_array(single(rows.column(name)).to_pandas().to_numpy(object)) for name in ("user_id", "item_id")
    )
    lot = user + item * np.uint64(0x9E3779B97F4A7C15)
    # Without this mixing (splitmix64) users' orders resemble each other, which a sequence model learns.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        lot = (lot ^ (lot >> np.uint64(shift))) * np.uint64(factor)
    return lot ^ (lot >> np.uint64(31))


def _is_told_by_item(items: pa.Array, item: np.ndarray, keys: list[np.ndarray]) -> bool:
    """Return whether the items tell the order of rows with the same `keys`."""
    return _is_sorted_by_item(items, item, keys) or _is_grouped_by_item(item, keys)


def _is_sorted_by_item(items: pa.Array, item: np.ndarray, keys: list[np.ndarray]) -> bool:
    """Return whether rows with the same `keys` follow their items' ids: the file was sorted."""
    before, after = item[:-1], item[1:]
    is_pair = (before != after) & np.logical_and.reduce([key[:-1] == key[1:] for key in keys])
    if is_pair.sum() < FEW_PAIRS:
        return False
    lengths = pc.utf8_length(items).to_numpy()
    by_number = np.empty(len(items), dtype=np.int64)
    by_number[np.lexsort((np.arange(len(items)), lengths))] = np.arange(len(items))
    for rank in (np.arange(len(items)), by_number):  # as texts, or as numbers
        rising = (rank[before] < rank[after])[is_pair].mean()
        if max(rising, 1 - rising) >= SORTED_SHARE:
            return True
    return False


def _is_grouped_by_item(item: np.ndarray, keys: list[np.ndarray]) -> bool:
    """Return whether items have usual places among rows with the same `keys`.

    So it is in a file sorted by anything of the item's, such as its category or title, or in parts by its
    hash. Half of the users tell the items' places, which are compared with those of the other half.
    """
    starts = np.r_[True, np.logical_or.reduce([np.diff(key) != 0 for key in keys])]
    group = np.cumsum(starts) - 1
    size = np.bincount(group)[group]
    place = (np.arange(len(item)) - np.flatnonzero(starts)[group]) / np.maximum(size - 1, 1)
    is_told = keys[0] % 2 == 0
    told = np.bincount(item, (size > 1) & is_told)
    usual = np.bincount(item, place * (size > 1) * is_told) / np.maximum(told, 1)
    is_compared = (size > 1) & ~is_told & (told[item] > 0)
    found, expected = place[is_compared], usual[item[is_compared]]
    if len(found) < FEW_ROWS or not found.std() or not expected.std():
        return False
    return bool(np.corrcoef(found, expected)[0, 1] > GROUPED)


def _ties(user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Return a mask of the rows that share user and time with a neighbour."""
    is_tie = (np.diff(user) == 0) & (np.diff(time) == 0)
    return np.r_[False, is_tie] | np.r_[is_tie, False]


def _first_of_each(
    user: np.ndarray, item: np.ndarray, action: np.ndarray, time: np.ndarray, items: int
) -> np.ndarray:
    """Return a mask of the first event per (user, item, action, time) in given order."""
    fresh = np.ones(len(user), dtype=bool)
    if not len(user):
        return fresh
    rows = np.flatnonzero(_ties(user, time))
    moment = np.cumsum(np.r_[True, (np.diff(user) != 0) | (np.diff(time) != 0)])[rows]
    key = (moment * items + item[rows]) * len(ACTIONS) + action[rows]
    _, first = np.unique(key, return_index=True)
    fresh[rows] = False
    fresh[rows[first]] = True
    return fresh


def single(column: pa.ChunkedArray) -> pa.Array:
    """Return the column as one array."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _offsets(lengths: np.ndarray) -> pa.Array:
    return pa.array(np.r_[0, np.cumsum(lengths)].astype(np.int32))


def _lists(offsets: pa.Array, values: pa.Array, name: str) -> pa.ListArray:
    return pa.ListArray.from_arrays(offsets, values, type=SEQUENCES.field(name).type)

"""From sorted events to one sequence a user, in vectorised numpy on Arrow columns (no row loops)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.tables import ACTIONS, EVENT, SEQUENCES, TIMESTAMP


@dataclass(frozen=True, kw_only=True)
class SequenceRules:
    """What a sequence is made by; times are µs since the epoch, used by the temporal split only."""

    min_interactions: int
    temporal: bool
    valid_from: int
    test_from: int
    action_weights: tuple[float, ...]  # in the order of ACTIONS
    dwell_weight: float
    full_dwell_seconds: float


@dataclass(frozen=True, kw_only=True)
class SequenceChunk:
    """The sequences of some whole users, the repeated events taken out, and what was counted."""

    sequences: pa.Table
    duplicates: pa.Table
    dropped_users: int
    events: int


def whole_users(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Regroup a stream sorted by user into tables that never cut a user; every row comes exactly once."""
    held: list[pa.Table] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        table = pa.Table.from_batches([batch])
        last = batch.column("user_id")[-1]
        start = pc.index(batch.column("user_id"), last).as_py()  # sorted: the last user begins here
        if start or (held and held[-1].column("user_id")[-1] != last):
            yield pa.concat_tables([*held, table.slice(0, start)])
            held = []
        held.append(table.slice(start))
    if held:
        yield pa.concat_tables(held)


def build(events: pa.Table, rules: SequenceRules) -> SequenceChunk:
    """Build the sequences of whole users from their events.

    `events` has the columns of EVENTS, sorted by (user_id, timestamp, ordinal, item_id, action, dwell).
    A repeated event (same user, item, action and time) counts once. Users with fewer than
    `min_interactions` distinct items are dropped. No rows give no rows.
    """
    events = events.combine_chunks()
    user = _runs(events.column("user_id"))
    encoded = _single(events.column("item_id")).dictionary_encode()
    item = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    action = pc.index_in(events.column("action"), pa.array(ACTIONS)).to_numpy().astype(np.int64)
    time = events.column("timestamp").cast(pa.int64()).to_numpy()
    fresh = _first_of_each(user, item, action, time, len(encoded.dictionary))
    duplicates = events.filter(pa.array(~fresh))
    users = _single(events.column("user_id")).take(pa.array(np.flatnonzero(np.diff(user, prepend=-1))))
    user, item, action, time = user[fresh], item[fresh], action[fresh], time[fresh]
    dwell = _single(events.column("dwell_seconds")).filter(pa.array(fresh))

    # One slot a distinct (user, item), numbered by its first event: user by user, in time order.
    _, first, inverse = np.unique(
        user * max(len(encoded.dictionary), 1) + item, return_index=True, return_inverse=True
    )
    by_time = np.argsort(first, kind="stable")
    slot = np.empty_like(by_time)
    slot[by_time] = np.arange(len(by_time))
    slot, first = slot[inverse], first[by_time]

    weight = np.array(rules.action_weights)[action] + rules.dwell_weight * _dwell_share(dwell, rules)
    engagement = np.bincount(slot, weights=weight, minlength=len(first)).astype(np.float64)
    lengths = np.bincount(user[first], minlength=len(users)) if len(first) else np.zeros(len(users), np.int64)
    keep = lengths >= rules.min_interactions
    kept_slots, kept_events = keep[user[first]], keep[user]
    starts = np.cumsum(lengths) - lengths
    train_end, valid_end = _ends(rules, lengths, user[first], time[first])

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
        sequences=sequences, duplicates=duplicates, dropped_users=int((~keep).sum()), events=len(rows)
    )


def _first_of_each(
    user: np.ndarray, item: np.ndarray, action: np.ndarray, time: np.ndarray, items: int
) -> np.ndarray:
    """Return a mask of the first event of each (user, item, action, time), in the given order."""
    fresh = np.ones(len(user), dtype=bool)
    same = np.zeros(len(user), dtype=bool)  # rows that share user and time with a neighbour
    if len(user) > 1:
        twin = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
        same[1:] |= twin
        same[:-1] |= twin
    rows = np.flatnonzero(same)
    if not len(rows):
        return fresh
    moment = np.cumsum(np.r_[True, (np.diff(user) != 0) | (np.diff(time) != 0)])[rows]
    key = (moment * items + item[rows]) * len(ACTIONS) + action[rows]
    _, first = np.unique(key, return_index=True)
    fresh[rows] = False
    fresh[rows[first]] = True
    return fresh


def _dwell_share(dwell: pa.Array, rules: SequenceRules) -> np.ndarray:
    seconds = np.nan_to_num(pc.fill_null(dwell, 0.0).to_numpy(zero_copy_only=False))
    return np.clip(seconds / rules.full_dwell_seconds, 0.0, 1.0)


def _ends(
    rules: SequenceRules, lengths: np.ndarray, owner: np.ndarray, time: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if not rules.temporal:
        return lengths - 2, lengths - 1
    users = len(lengths)
    before = [np.bincount(owner[time < cut], minlength=users) for cut in (rules.valid_from, rules.test_from)]
    return before[0], before[1]


def _runs(sorted_column: pa.ChunkedArray) -> np.ndarray:
    """Return the number of each row's run of equal values, from 0."""
    values = _single(sorted_column)
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    changed = pc.not_equal(values.slice(1), values.slice(0, len(values) - 1)).to_numpy(zero_copy_only=False)
    return np.cumsum(np.r_[False, changed]).astype(np.int64)


def _single(column: pa.ChunkedArray) -> pa.Array:
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
    )


def _offsets(lengths: np.ndarray) -> pa.Array:
    return pa.array(np.r_[0, np.cumsum(lengths)].astype(np.int32))


def _lists(offsets: pa.Array, values: pa.Array, name: str) -> pa.ListArray:
    return pa.ListArray.from_arrays(offsets, values, type=SEQUENCES.field(name).type)

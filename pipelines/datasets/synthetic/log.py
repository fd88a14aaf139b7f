"""A seeded log of a social platform, of any size, with structure that ids and titles both show.

A user has two to four topics and a style ("Budget", "Expert" …). Time passes in sessions; a session has
an intent (one topic and subtopic) that most of its items follow, and the next session often keeps it.
Half-way one topic is replaced: drift. Within a group of like items popularity is Zipf-like. On an item
the user goes down the funnel view > click > like > save > comment > share > follow, further when topic
and style match. Users are drawn in chunks, each from its own seed, so memory stays flat.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.shared.artifacts.outputs import atomic_folder
from components.shared.logs import logger, progress
from data_contracts import tables
from pipelines.datasets.synthetic.config import SampleConfig
from pipelines.datasets.synthetic.dirt import add_dirt
from pipelines.datasets.synthetic.items import NAMES, STYLES, SUBTOPICS, SampleItems, ids, start_us

log = logger("sample")

FUNNEL = ("view", "click", "like", "save", "comment", "share", "follow")
DEEPER = np.array([0.55, 0.40, 0.45, 0.35, 0.45, 0.40])  # chance to take the next step of the funnel
MATCH_BONUS = 0.15  # added to it for each of topic and style that match
KEEP_INTENT = 0.92  # the next item is of the session's intent
KEEP_SUBTOPIC = 0.75
KEEP_STYLE = 0.90
NEW_SESSION = 0.12  # chance that an item opens a new session: about eight items a session
KEEP_SESSION_INTENT = 0.70  # a new session keeps the last one's intent
FUNNEL_SECONDS = 15.0  # all events on one item happen within this time
EXPOSED = 10  # items of an exposure list


def generate(config: SampleConfig, folder: Path) -> None:
    """Write users, items, events and exposures (if configured) into `folder`, whole or not at all.

    The same configuration gives the same bytes. Events may hold nulls if `dirty_share` > 0.
    """
    catalogue = SampleItems(config)
    with atomic_folder(folder) as partial:
        pq.write_table(catalogue.table(), partial / "items.parquet")
        with ExitStack() as stack:
            writers = {
                name: stack.enter_context(pq.ParquetWriter(partial / f"{name}.parquet", schema))
                for name, schema in _schemas(config).items()
            }
            written = 0
            for first in range(0, config.users, config.chunk_users):
                users = np.arange(first, min(first + config.chunk_users, config.users))
                rng = np.random.default_rng([config.seed, 1, first])
                chunk = _chunk(config, catalogue, users, rng, written)
                for name, writer in writers.items():
                    writer.write_table(pa.table(chunk[name], schema=writer.schema))
                written += len(chunk["events"]["action"])
                progress(log, int(users[-1]) + 1, config.users, f"{written:,} events")


def _schemas(config: SampleConfig) -> dict[str, pa.Schema]:
    """Return the schemas of the tables written chunk by chunk."""
    is_dirty = config.dirty_share > 0
    events = pa.schema([field.with_nullable(field.nullable or is_dirty) for field in tables.EVENTS])
    exposures = {"exposures": tables.EXPOSURES} if config.exposures else {}
    return {"users": tables.USERS, "events": events, **exposures}


def _chunk(
    config: SampleConfig, catalogue: SampleItems, users: np.ndarray, rng: np.random.Generator, written: int
) -> dict[str, dict[str, Any]]:
    """Return the columns of each table for `users`, after `written` events."""
    count = len(users)
    tastes, style = _tastes(count, rng), rng.integers(0, len(STYLES), count)
    user_ids = ids("u", users, config.users)
    columns = {"users": _users(config, user_ids, tastes, rng)}

    lengths = 1 + rng.negative_binomial(3, 3 / (config.items_per_user + 3), count)  # some meet an item again
    user = np.repeat(np.arange(count), lengths)
    position = np.arange(len(user)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    late = position >= np.repeat(lengths, lengths) // 2
    session = _sessions(position, rng)
    intent, subtopic = _intents(user, session, late, tastes, rng)
    item, topic_fits = _items(catalogue, user, intent, subtopic, style, tastes, rng)
    times = _times(config, user, session, rng)
    match = topic_fits.astype(np.int64) + (catalogue.style[item] == style[user])
    events = _funnel(user, item, times, match, rng)
    events = add_dirt(events, config, rng) if config.dirty_share else events
    names = {"user_id": user_ids, "item_id": catalogue.ids}
    columns["events"] = _event_columns(events, names, written)
    if config.exposures:
        columns["exposures"] = _exposures(catalogue, user_ids, user, session, item, times, tastes, rng)
    return columns


def _tastes(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return topics [count, 5]: 0-3 of the first half (repeats weigh more), 4 the new one."""
    tastes = np.argsort(rng.random((count, len(NAMES))), axis=1)[:, :5]
    many = rng.integers(2, 5, count)  # two to four topics; the other columns repeat the first two
    for column in (2, 3):
        tastes[:, column] = np.where(many > column, tastes[:, column], tastes[:, column - 2])
    return tastes


def _users(
    config: SampleConfig, user_ids: np.ndarray, tastes: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    count = len(user_ids)
    disclosed = rng.random((count, 4)) < config.interest_share
    interests = [
        list(dict.fromkeys(NAMES[t] for t, is_shown in zip(row[:4], shown, strict=True) if is_shown))
        for row, shown in zip(tastes, disclosed, strict=True)
    ]
    return {
        "user_id": pa.array(user_ids),
        "age": pa.array(
            np.clip(rng.normal(29, 9, count), 14, 80).astype(np.int32), mask=rng.random(count) < 0.1
        ),
        "gender": pa.array(rng.choice(["female", "male"], count), mask=rng.random(count) < 0.1),
        "city_tier": pa.array(rng.choice(["1", "2", "3"], count, p=[0.4, 0.35, 0.25])),
        "interests": interests,
    }


def _sessions(position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the session number of each item, counted through the chunk."""
    return np.cumsum((position == 0) | (rng.random(len(position)) < NEW_SESSION)) - 1


def _intents(
    user: np.ndarray, session: np.ndarray, late: np.ndarray, tastes: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the topic and subtopic that each item's session is about."""
    first = np.flatnonzero(np.r_[True, session[1:] != session[:-1]])
    owner, drifted = user[first], late[first]
    column = rng.choice(4, len(first), p=[0.4, 0.3, 0.2, 0.1])
    column = np.where(drifted & (column == 0), 4, column)  # drift: the strongest topic gives way to a new one
    topic, subtopic = tastes[owner, column], rng.integers(0, SUBTOPICS, len(first))
    keeps = (rng.random(len(first)) < KEEP_SESSION_INTENT) & np.r_[False, owner[1:] == owner[:-1]]
    source = np.maximum.accumulate(np.where(keeps, 0, np.arange(len(first))))
    return topic[source][session], subtopic[source][session]


def _items(
    catalogue: SampleItems,
    user: np.ndarray,
    intent: np.ndarray,
    subtopic: np.ndarray,
    style: np.ndarray,
    tastes: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return an item per position and whether it follows the intent; repeats of a user are redrawn."""
    count = len(user)
    follows = rng.random(count) < KEEP_INTENT
    topic = np.where(follows, intent, rng.integers(0, len(NAMES), count))
    item = np.full(count, -1, dtype=np.int64)
    open_slots = np.arange(count)
    for _ in range(6):
        wish_sub = np.where(
            rng.random(len(open_slots)) < KEEP_SUBTOPIC,
            subtopic[open_slots],
            rng.integers(0, SUBTOPICS, len(open_slots)),
        )
        wish_style = np.where(
            rng.random(len(open_slots)) < KEEP_STYLE,
            style[user[open_slots]],
            rng.integers(0, len(STYLES), len(open_slots)),
        )
        item[open_slots] = catalogue.pick(topic[open_slots], wish_sub, wish_style, rng)
        _, firsts = np.unique(user * len(catalogue.topic) + item, return_index=True)
        repeated = np.ones(count, dtype=bool)
        repeated[firsts] = False
        open_slots = np.flatnonzero(repeated)
        if not len(open_slots):
            break
    return item, follows


def _times(
    config: SampleConfig, user: np.ndarray, session: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the time of each item's first event (µs since the epoch), rising within a user."""
    first = np.flatnonzero(np.r_[True, session[1:] != session[:-1]])
    owner = user[first]
    day = rng.integers(0, config.days, len(first))
    hour = rng.choice(24, len(first), p=_hours())
    start = day * 24.0 + hour + rng.random(len(first)) * 0.3
    start = start[np.lexsort((start, owner))]  # sessions of a user in time order
    gap = rng.exponential(90.0, len(user)) + FUNNEL_SECONDS  # seconds between two items of a session
    total = np.cumsum(gap)
    since = total - total[first][session]
    seconds = start[session] * 3600.0 + since
    # Two sessions may overlap; the log still shows them one after the other, a funnel's length apart.
    apart = FUNNEL_SECONDS * np.arange(len(user)) - user * 1e9
    rising = np.maximum.accumulate(seconds - apart) + apart
    return start_us(config) + (rising * 1e6).astype(np.int64)


def _hours() -> np.ndarray:
    weight = np.array([1, 0.5, 0.3, 0.2, 0.2, 0.3, 1, 2, 3, 3, 3, 3, 4, 4, 3, 3, 3, 4, 5, 7, 9, 9, 7, 3])
    return weight / weight.sum()


def _funnel(
    user: np.ndarray, item: np.ndarray, times: np.ndarray, match: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return an event per step of the funnel taken: arrays of user, item, action, dwell and time."""
    chance = np.clip(DEEPER[None, :] + MATCH_BONUS * (match[:, None] - 1), 0, 1)
    deep = np.cumprod(rng.random(chance.shape) < chance, axis=1).sum(axis=1)
    rows = np.repeat(np.arange(len(user)), deep + 1)
    step = np.arange(len(rows)) - np.repeat(np.cumsum(deep + 1) - (deep + 1), deep + 1)
    dwell = np.where(
        step == 0, rng.uniform(0.5, 5.0, len(rows)), rng.lognormal(2.8 + 0.4 * match[rows], 0.7, len(rows))
    )
    dwell = np.where(step <= 1, np.round(dwell, 1), np.nan)  # only views and clicks last
    later = np.cumsum(rng.uniform(0.5, 2.0, len(rows)))
    later -= np.repeat(later[np.cumsum(deep + 1) - (deep + 1)], deep + 1)
    return {
        "user": user[rows],
        "item": item[rows],
        "action": step,
        "dwell": dwell,
        "time": times[rows] + (later * 1e6).astype(np.int64),
    }


def _event_columns(
    events: dict[str, np.ndarray], names: dict[str, np.ndarray], written: int
) -> dict[str, Any]:
    def named(index: np.ndarray, names: np.ndarray, unknown: str) -> pa.Array:
        listed = pa.array([*names, unknown])
        return pa.DictionaryArray.from_arrays(pa.array(index, mask=index < 0), listed).dictionary_decode()

    dwell = events["dwell"]
    return {
        "user_id": named(events["user"], names["user_id"], ""),
        "item_id": named(events["item"], names["item_id"], "no-such-item"),
        "action": named(events["action"], np.array(FUNNEL), "teleport"),
        "dwell_seconds": pa.array(dwell, mask=np.isnan(dwell)),
        "timestamp": pa.array(events["time"]).cast(pa.timestamp("us")).cast(tables.TIMESTAMP),
        "ordinal": np.arange(written, written + len(dwell)),
    }


def _exposures(
    catalogue: SampleItems,
    user_ids: np.ndarray,
    user: np.ndarray,
    session: np.ndarray,
    item: np.ndarray,
    times: np.ndarray,
    tastes: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Return the list shown at the begin of each session: guesses, sometimes with a hit."""
    first = np.flatnonzero(np.r_[True, session[1:] != session[:-1]])
    owner = np.repeat(user[first], EXPOSED)
    wishes = (
        tastes[owner, rng.integers(0, 4, len(owner))],
        rng.integers(0, SUBTOPICS, len(owner)),
        rng.integers(0, len(STYLES), len(owner)),
    )
    shown = catalogue.pick(*wishes, rng).reshape(-1, EXPOSED)
    hit = rng.random(len(first)) < 0.5
    shown[hit, rng.integers(0, EXPOSED, hit.sum())] = item[first][hit]
    offsets = np.arange(0, shown.size + 1, EXPOSED, dtype=np.int32)
    return {
        "user_id": pa.array(user_ids[user[first]]),
        "timestamp": pa.array(times[first] - 1_000_000).cast(pa.timestamp("us")).cast(tables.TIMESTAMP),
        "item_ids": pa.ListArray.from_arrays(offsets, pa.array(catalogue.ids[shown.ravel()])),
    }

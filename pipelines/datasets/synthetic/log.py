"""A seeded log of a social platform, of any size, with structure that ids and titles both show.

A user has two to four topics, and, across them, a style ("budget", "gothic" …) and two liked forms ("Diary",
"Compared" …). Time passes in sessions; a session has an intent (one topic and subtopic) that most of its
items follow, and the next session often keeps it. Half-way one topic is replaced: drift. Within a group of
like items popularity is Zipf-like. On an item the user goes down the funnel view > click > like > save >
comment > share > follow, further when topic and style match. Users are drawn in chunks, each from its own
seed, so memory stays flat.

What titles say and co-occurrence does not: no tag or category tells an item's form, nor its style, which a
title names in one of several words ("Gothic", "Spooky"); and `new_item_share` of the items are launched
during the log, so that few users have met them. `shuffle_titles` gives each item another's title: what was
gained by reading must then be lost.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.shared.logs import logger, progress
from data_contracts import tables
from pipelines.datasets.own_folder import own_folder
from pipelines.datasets.synthetic.config import SampleConfig
from pipelines.datasets.synthetic.items import FORMS, NAMES, STYLES, SUBTOPICS, SampleItems, ids, start_us

log = logger("sample")

FUNNEL = ("view", "click", "like", "save", "comment", "share", "follow")
DEEPER = np.array([0.55, 0.40, 0.45, 0.35, 0.45, 0.40])  # chance to take the next step of the funnel
MATCH_BONUS = 0.15  # added to it for each of topic and style that match
KEEP_INTENT = 0.92  # the next item is of the session's intent
KEEP_SUBTOPIC = 0.75
KEEP_STYLE = 0.90
LIKED_FORMS = 2  # of a user
GLANCES = 8  # items that a user looks at to find one in a liked form
NEW_SESSION = 0.12  # chance that an item opens a new session: about eight items a session
KEEP_SESSION_INTENT = 0.70  # a new session keeps the last one's intent
FUNNEL_SECONDS = 15.0  # all events on one item happen within this time
EXPOSED = 10  # items of an exposure list
HOURS = np.array([1, 0.5, 0.3, 0.2, 0.2, 0.3, 1, 2, 3, 3, 3, 3, 4, 4, 3, 3, 3, 4, 5, 7, 9, 9, 7, 3])
CENTURY_US = 100 * 365 * 86_400_000_000


def generate(config: SampleConfig, out: str | Path) -> None:
    """Write users, items, events and exposures (if configured) to `out`, a folder or s3:// URI.

    The same configuration gives the same bytes. Events may hold nulls if `dirty_share` > 0.
    """
    catalogue = SampleItems(config)
    is_dirty = config.dirty_share > 0
    events = pa.schema([field.with_nullable(field.nullable or is_dirty) for field in tables.EVENTS])
    shown = tables.EXPOSURES.remove(tables.EXPOSURES.get_field_index("propensities"))
    schemas = {"users": tables.USERS, "events": events, "exposures": shown}
    if not config.exposures:
        del schemas["exposures"]
    with own_folder(out) as partial, ExitStack() as stack:
        pq.write_table(catalogue.table, partial / "items.parquet")
        writers = {
            name: stack.enter_context(pq.ParquetWriter(partial / f"{name}.parquet", schema))
            for name, schema in schemas.items()
        }
        written = 0
        for first in range(0, config.users, config.chunk_users):
            users = np.arange(first, min(first + config.chunk_users, config.users))
            chunk = _chunk(config, catalogue, users, np.random.default_rng([config.seed, 1, first]), written)
            for name, writer in writers.items():
                writer.write_table(pa.table(chunk[name], schema=writer.schema))
            written += len(chunk["events"]["action"])
            progress(log, int(users[-1]) + 1, config.users, f"{written:,} events")


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
    opens = (position == 0) | (rng.random(len(position)) < NEW_SESSION)
    # Of each session the first row, and of each row the number of its session.
    first, session = np.flatnonzero(opens), np.cumsum(opens) - 1
    intent, subtopic = (found[session] for found in _intents(user[first], late[first], tastes, rng))
    times = _times(config, user, first, session, rng)
    likes_form = _liked_forms(count, rng)[user]
    item, topic_fits = _items(catalogue, user, times, intent, subtopic, style[user], likes_form, rng)
    match = topic_fits.astype(np.int64) + (catalogue.style[item] == style[user])
    events = _funnel(user, item, times, match, rng)
    events = _add_dirt(events, config, rng) if config.dirty_share else events
    columns["events"] = _event_columns(events, user_ids, catalogue.ids, written)
    if config.exposures:
        columns["exposures"] = _exposures(
            catalogue, user_ids, user[first], item[first], times[first], tastes, rng
        )
    return columns


def _tastes(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return topics [count, 5]: four of the first half (repeats weigh more), one new."""
    tastes = np.argsort(rng.random((count, len(NAMES))), axis=1)[:, :5]
    many = rng.integers(2, 5, count)  # two to four topics; the other columns repeat the first two
    for column in (2, 3):
        tastes[:, column] = np.where(many > column, tastes[:, column], tastes[:, column - 2])
    return tastes


def _liked_forms(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return whether each user likes each form, [count, forms]."""
    liked = np.zeros((count, len(FORMS)), dtype=bool)
    np.put_along_axis(liked, rng.integers(0, len(FORMS), (count, LIKED_FORMS)), True, axis=1)
    return liked


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


def _intents(
    owner: np.ndarray, late: np.ndarray, tastes: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the topic and subtopic that each session of the users `owner` is about."""
    count = len(owner)
    column = rng.choice(4, count, p=[0.4, 0.3, 0.2, 0.1])
    column = np.where(late & (column == 0), 4, column)  # drift: the strongest topic gives way to a new one
    topic, subtopic = tastes[owner, column], rng.integers(0, SUBTOPICS, count)
    keeps = (rng.random(count) < KEEP_SESSION_INTENT) & np.r_[False, owner[1:] == owner[:-1]]
    source = np.maximum.accumulate(np.where(keeps, 0, np.arange(count)))
    return topic[source], subtopic[source]


def _items(
    catalogue: SampleItems,
    user: np.ndarray,
    times: np.ndarray,
    intent: np.ndarray,
    subtopic: np.ndarray,
    style: np.ndarray,
    likes_form: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's item and whether it follows the intent; `likes_form` is [rows, forms].

    A user's repeats and items before their launch are drawn again, in the end from anything on the topic.
    """
    count = len(user)
    follows = rng.random(count) < KEEP_INTENT
    topic = np.where(follows, intent, rng.integers(0, len(NAMES), count))
    item = np.full(count, -1, dtype=np.int64)
    redrawn = np.arange(count)
    for attempt in range(12):
        size, is_picky = len(redrawn), attempt < 6
        for glance in range(GLANCES):
            keeps = (rng.random(size) < KEEP_SUBTOPIC) & is_picky
            wish_subtopic = np.where(keeps, subtopic[redrawn], rng.integers(0, SUBTOPICS, size))
            keeps = (rng.random(size) < KEEP_STYLE) & is_picky
            wish_style = np.where(keeps, style[redrawn], rng.integers(0, len(STYLES), size))
            seen = catalogue.pick(topic[redrawn], wish_subtopic, wish_style, rng)
            is_liked = glance > 0 and likes_form[redrawn, catalogue.form[item[redrawn]]]
            item[redrawn] = np.where(is_liked, item[redrawn], seen)
        redrawn = np.flatnonzero(~_new_and_launched(catalogue, user, item, times))
        if not len(redrawn):
            break
    return item, follows


def _new_and_launched(
    catalogue: SampleItems, owner: np.ndarray, item: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Return whether each row is its owner's first of the item, after the item's launch."""
    _, firsts = np.unique(owner * len(catalogue.topic) + item, return_index=True)
    return np.isin(np.arange(len(item)), firsts) & (catalogue.created[item] <= times)


def _times(
    config: SampleConfig, user: np.ndarray, first: np.ndarray, session: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return each item's first event time (µs since the epoch), rising per user."""
    day = rng.integers(0, config.days, len(first))
    hour = rng.choice(24, len(first), p=HOURS / HOURS.sum())
    start = day * 24.0 + hour + rng.random(len(first)) * 0.3
    start = start[np.lexsort((start, user[first]))]  # sessions of a user in time order
    gap = rng.exponential(90.0, len(user)) + FUNNEL_SECONDS  # seconds between two items of a session
    total = np.cumsum(gap)
    since = total - total[first][session]
    seconds = start[session] * 3600.0 + since
    # Two sessions may overlap; the log still shows them one after the other, a funnel's length apart.
    apart = FUNNEL_SECONDS * np.arange(len(user)) - user * 1e9
    rising = np.maximum.accumulate(seconds - apart) + apart
    return start_us(config) + (rising * 1e6).astype(np.int64)


def _funnel(
    user: np.ndarray, item: np.ndarray, times: np.ndarray, match: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return an event per funnel step taken: arrays of user, item, action, dwell, time."""
    chance = np.clip(DEEPER[None, :] + MATCH_BONUS * (match[:, None] - 1), 0, 1)
    steps = 1 + np.cumprod(rng.random(chance.shape) < chance, axis=1).sum(axis=1)
    rows = np.repeat(np.arange(len(user)), steps)
    starts = np.repeat(np.cumsum(steps) - steps, steps)
    step = np.arange(len(rows)) - starts
    views, longer = rng.uniform(0.5, 5.0, len(rows)), rng.lognormal(2.8 + 0.4 * match[rows], 0.7, len(rows))
    dwell = np.where(step == 0, views, longer)
    later = np.cumsum(rng.uniform(0.5, 2.0, len(rows)))
    return {
        "user": user[rows],
        "item": item[rows],
        "action": step,
        "dwell": np.where(step <= 1, np.round(dwell, 1), np.nan),  # only views and clicks last
        "time": times[rows] + ((later - later[starts]) * 1e6).astype(np.int64),
    }


def _add_dirt(
    events: dict[str, np.ndarray], config: SampleConfig, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return `events` and broken copies of random ones: `dirty_share` of all, to try the quarantine.

    Index -1 means null; an index one past the end, an unknown item or action.
    """
    clean = len(events["user"])
    count = round(clean * config.dirty_share / (1 - config.dirty_share))
    chosen = rng.integers(0, clean, count)
    copies = {name: values[chosen] for name, values in events.items()}
    kind = rng.integers(0, 8, count)  # 7 is a mere repetition
    copies["user"] = np.where(kind == 0, -1, copies["user"])
    copies["item"] = np.where(kind == 1, -1, np.where(kind == 2, config.items, copies["item"]))
    copies["action"] = np.where(kind == 3, len(FUNNEL), copies["action"])
    copies["dwell"] = np.where(kind == 4, -1.0, copies["dwell"])
    copies["time"] += np.where(kind == 5, CENTURY_US, np.where(kind == 6, -CENTURY_US, 0))
    return {name: np.concatenate([values, copies[name]]) for name, values in events.items()}


def _event_columns(
    events: dict[str, np.ndarray], user_ids: np.ndarray, item_ids: np.ndarray, written: int
) -> dict[str, Any]:
    def named(index: np.ndarray, *names: str) -> pa.Array:
        indices = pa.array(index, mask=index < 0)
        return pa.DictionaryArray.from_arrays(indices, pa.array(names)).dictionary_decode()

    dwell = events["dwell"]
    return {
        "user_id": named(events["user"], *user_ids),
        "item_id": named(events["item"], *item_ids, "no-such-item"),
        "action": named(events["action"], *FUNNEL, "teleport"),
        "dwell_seconds": pa.array(dwell, mask=np.isnan(dwell)),
        "timestamp": pa.array(events["time"]).cast(tables.TIMESTAMP),
        "ordinal": np.arange(written, written + len(dwell)),
    }


def _exposures(
    catalogue: SampleItems,
    user_ids: np.ndarray,
    user: np.ndarray,
    item: np.ndarray,
    times: np.ndarray,
    tastes: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Return the list shown before each session's first `item`: guesses, sometimes with a hit.

    Repeats and items before their launch are drawn again.
    """
    hit = np.flatnonzero(rng.random(len(user)) < 0.5)
    hit_slots = hit * EXPOSED + rng.integers(0, EXPOSED, len(hit))
    shown = np.empty(len(user) * EXPOSED, dtype=np.int64)
    row = np.arange(len(shown)) // EXPOSED
    redrawn = np.arange(len(shown))
    for _ in range(12):
        topic = tastes[user[row[redrawn]], rng.integers(0, 4, len(redrawn))]
        subtopic, style = (rng.integers(0, kinds, len(redrawn)) for kinds in (SUBTOPICS, len(STYLES)))
        shown[redrawn] = catalogue.pick(topic, subtopic, style, rng)
        shown[hit_slots] = item[hit]
        slots = np.concatenate((hit_slots, np.arange(len(shown))))  # of equals, the hit stays
        is_fine = _new_and_launched(catalogue, row[slots], shown[slots], times[row[slots]])[len(hit) :]
        is_fine[hit_slots] = True
        redrawn = np.flatnonzero(~is_fine)
        if not len(redrawn):
            break
    offsets = np.arange(0, len(shown) + 1, EXPOSED, dtype=np.int32)
    return {
        "user_id": pa.array(user_ids[user]),
        "timestamp": pa.array(times - 1_000_000).cast(tables.TIMESTAMP),
        "item_ids": pa.ListArray.from_arrays(offsets, pa.array(catalogue.ids[shown])),
    }

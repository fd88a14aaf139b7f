"""The numpy builder against a plain pandas computation, on random logs."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from components.etl.config import ACTION_WEIGHTS, SequencesConfig
from components.etl.sequences.build import PLACED_EVENTS, build
from components.etl.sources.readers import FILE_BIT
from data_contracts.tables import ACTIONS, EVENTS

START = datetime(2025, 1, 1, tzinfo=UTC)
ORDER = ["user_id", "timestamp", "ordinal", "place"]


CONFIG = SequencesConfig(min_interactions=3)


def log(rows: list[tuple]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "action", "dwell_seconds", "second"])
    frame["timestamp"] = [START + timedelta(seconds=s) for s in frame.pop("second")]
    frame["ordinal"] = frame["place"] = range(len(frame))
    return frame


def as_arrow(frame: pd.DataFrame) -> pa.Table:
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return pa.Table.from_pylist(rows, schema=PLACED_EVENTS)


def reference(frame: pd.DataFrame, least: int) -> dict[str, dict]:
    """Return each kept user's sequence, by loops that share nothing with the code under test."""
    frame = frame.sort_values(ORDER, kind="stable", na_position="first")
    frame = frame.drop_duplicates(["user_id", "item_id", "action", "timestamp"])
    sequences = {}
    for user, events in frame.groupby("user_id"):
        items = list(dict.fromkeys(events["item_id"]))
        if len(items) < least:
            continue
        strength = dict.fromkeys(items, 0.0)
        for event in events.itertuples():
            dwell = 0.0 if pd.isna(event.dwell_seconds) else min(event.dwell_seconds / 60, 1)
            strength[event.item_id] += ACTION_WEIGHTS[event.action] + dwell
        first = events.groupby("item_id")["timestamp"].min()
        sequences[user] = {
            "item_ids": items,
            "timestamps": [first[item].to_pydatetime() for item in items],
            "engagement": [strength[item] for item in items],
            "events": [(items.index(e.item_id), e.action) for e in events.itertuples()],
        }
    return sequences


EVENT_ROWS = st.tuples(
    st.sampled_from(["u1", "u2", "u3", "ü4"]),
    st.sampled_from([f"i{n}" for n in range(7)]),
    st.sampled_from(ACTIONS),
    st.one_of(st.none(), st.floats(0, 200)),
    st.integers(0, 12),  # few moments: many ties
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENT_ROWS, max_size=60), st.booleans(), st.randoms())
def test_build_equals_pandas(rows, numbered, chance):
    frame = log(rows)
    if not numbered:
        frame["ordinal"] = pd.NA  # ties fall to the order of the file
    shuffled = list(range(len(frame)))
    chance.shuffle(shuffled)
    chunk = build(as_arrow(frame.iloc[shuffled]), CONFIG)
    found = {row["user_id"]: row for row in chunk.sequences.to_pylist()}
    expected = reference(frame, 3)
    assert list(found) == sorted(expected)
    for user, want in expected.items():
        got = found[user]
        assert got["item_ids"] == want["item_ids"]
        assert got["timestamps"] == want["timestamps"]
        assert got["engagement"] == pytest.approx(want["engagement"])
        assert [(e["position"], e["action"]) for e in got["events"]] == want["events"]
        assert (got["train_end"], got["valid_end"]) == (len(want["item_ids"]) - 2, len(want["item_ids"]) - 1)
    repeated = len(frame) - len(frame.drop_duplicates(["user_id", "item_id", "action", "timestamp"]))
    assert len(chunk.repeated) == repeated
    assert chunk.dropped_users == frame["user_id"].nunique() - len(expected)


def test_ties_in_time_keep_the_order_of_the_log():
    frame = log([("u", item, "purchase", None, 0) for item in ("z", "a", "m")])
    (row,) = build(as_arrow(frame), CONFIG).sequences.to_pylist()
    assert row["item_ids"] == ["z", "a", "m"]


@pytest.mark.parametrize("descending", [False, True])
def test_a_few_users_show_that_a_file_is_sorted_by_items(descending):
    frame = log([(f"u{user}", item, "view", None, 0) for user in range(5) for item in "abcdef"])
    frame = frame.sort_values(["user_id", "item_id"], ascending=[True, not descending])
    rows = build(as_arrow(frame.assign(ordinal=pd.NA, place=range(len(frame)))), CONFIG).sequences.to_pylist()
    assert len({tuple(row["item_ids"]) for row in rows}) == 5


NOISE_USERS, NOISE_ITEMS, NOISE_LENGTH = 600, 60, 9


def noise(order: str) -> pd.DataFrame:
    """Users with random items at one moment, in the file in this `order`."""
    chance = np.random.default_rng(5)
    rows = [
        (f"u{user:03d}", f"{item}", "view", None, 0)
        for user in range(NOISE_USERS)
        for item in chance.permutation(NOISE_ITEMS)[:NOISE_LENGTH]
    ]
    frame = log(rows)
    frame = frame.sample(frac=1, random_state=0)
    frame["number"] = frame["item_id"].astype(int)
    frame["title"] = chance.permutation(NOISE_ITEMS)[frame["number"]]
    frame["part"] = frame["title"] % 2
    frame["flush"] = chance.integers(3, size=len(frame))
    frame = frame.sort_values(order, kind="stable") if order else frame
    frame["place"] = range(len(frame))
    if "flush" in order:
        frame["place"] += frame["flush"].to_numpy() << FILE_BIT
    return frame.drop(columns=["number", "title", "part", "flush"])


@pytest.mark.parametrize(
    ("order", "with_ordinal"),
    [
        pytest.param("", True, id="ordinal"),
        pytest.param("", False, id="order of the file"),
        pytest.param("item_id", False, id="file sorted by items"),
        pytest.param("number", False, id="file sorted by items as numbers"),
        pytest.param(["user_id", "number"], False, id="file sorted by users and items"),
        pytest.param("title", False, id="file sorted by titles"),
        pytest.param(["part", "user_id"], False, id="two parts of items, each sorted by users"),
        pytest.param(["flush", "title"], False, id="three parts of rows, each sorted by titles"),
        pytest.param(None, False, id="no order"),
    ],
)
def test_noise_at_one_moment_has_random_labels(order, with_ordinal):
    frame = noise(order or "")
    if order is None:
        frame["place"] = pd.NA
    if not with_ordinal:
        frame["ordinal"] = pd.NA
    chunk = build(as_arrow(frame), CONFIG)
    rows = chunk.sequences.to_pylist()
    assert chunk.tied_users == len(rows) == NOISE_USERS
    # Whatever ranks items by their ids scores as much as chance: the label's rank in its sequence is uniform.
    for key in (str, int):
        ranks = [sorted(row["item_ids"], key=key).index(row["item_ids"][-1]) for row in rows]
        counts = np.bincount(ranks, minlength=NOISE_LENGTH)
        assert scipy.stats.chisquare(counts).pvalue > 0.001
    for counted in (_popularity, _transitions):
        gains = counted(rows)
        hits = np.mean([_is_hit(row["item_ids"], gains) for row in rows])
        chance = 10 / (NOISE_ITEMS - NOISE_LENGTH + 1)
        assert abs(hits - chance) < 4 * (chance * (1 - chance) / NOISE_USERS) ** 0.5, counted


def _popularity(rows: list[dict]) -> np.ndarray:
    return np.tile(np.bincount([int(i) for row in rows for i in row["item_ids"][:-1]], minlength=60), (60, 1))


def _transitions(rows: list[dict]) -> np.ndarray:
    """Return how often each item follows each other one, which shows an order that users share."""
    counts = np.zeros((NOISE_ITEMS, NOISE_ITEMS))
    for row in rows:
        items = np.array(row["item_ids"][:-1], dtype=int)
        np.add.at(counts, (items[:-1], items[1:]), 1)
    return counts


def _is_hit(items: list[str], gains: np.ndarray) -> bool:
    *seen, label = map(int, items)
    best = [item for item in np.argsort(-gains[seen[-1]], kind="stable") if item not in seen]
    return label in best[:10]


def test_users_whose_label_is_tied_with_their_history_are_counted():
    seconds = {"tied": [0, 1, 2, 2], "apart": [0, 1, 1, 2], "short": [0, 0]}
    frame = log([(u, f"i{n}", "view", None, s) for u, times in seconds.items() for n, s in enumerate(times)])
    assert build(as_arrow(frame), CONFIG).tied_users == 1


def test_engagement_is_the_sum_of_action_weights_and_dwell():
    frame = log(
        [
            ("u", "a", "view", 30.0, 0),
            ("u", "a", "save", None, 1),
            ("u", "b", "view", 600.0, 2),
            ("u", "c", "view", None, 3),
        ]
    )
    (row,) = build(as_arrow(frame), CONFIG).sequences.to_pylist()
    # a: view 0.1 + 30/60 + save 2.0; b: view 0.1 + at most 1.0; c: view 0.1
    assert row["engagement"] == pytest.approx([2.6, 1.1, 0.1])


@pytest.mark.parametrize(
    ("valid_from", "test_from", "ends"),
    [
        pytest.param(2, 3, (2, 3), id="one item each"),
        pytest.param(0, 1, (0, 1), id="no training item"),
        pytest.param(9, 9, (4, 4), id="everything trains"),
        pytest.param(1, 1, (1, 1), id="nothing validates"),
    ],
)
def test_temporal_cuts_are_global(valid_from, test_from, ends):
    frame = log([("u", f"i{second}", "view", None, second) for second in range(4)])
    cuts = [int((START + timedelta(seconds=s)).timestamp() * 1e6) for s in (valid_from, test_from)]
    (row,) = build(as_arrow(frame), CONFIG, (cuts[0], cuts[1])).sequences.to_pylist()
    assert (row["train_end"], row["valid_end"]) == ends


def test_no_events_give_no_sequences():
    chunk = build(PLACED_EVENTS.empty_table(), CONFIG)
    assert (chunk.sequences.num_rows, chunk.dropped_users, chunk.events, chunk.tied_users) == (0, 0, 0, 0)


def test_a_user_of_100_000_events_is_no_special_case():
    count = 100_000
    events = pa.table(
        {
            "user_id": pa.repeat("big", count),
            "item_id": pa.array([f"i{n % 40_000:05d}" for n in range(count)]),
            "action": pa.repeat("view", count),
            "dwell_seconds": pa.nulls(count, pa.float64()),
            "timestamp": pa.array(range(count), pa.int64()).cast(EVENTS.field("timestamp").type),
            "ordinal": pa.nulls(count, pa.int64()),
            "place": pa.nulls(count, pa.int64()),
        },
        schema=PLACED_EVENTS,
    )
    (row,) = build(events, CONFIG).sequences.to_pylist()
    assert row["item_ids"] == [f"i{n:05d}" for n in range(40_000)]
    assert [row["engagement"][0], row["engagement"][-1]] == pytest.approx([0.3, 0.2])


def test_times_far_apart_are_sorted_too():
    """So many users over so long a time that user and time do not fit into one integer."""
    count, step = 1000, 2 * 31_556_952 * 1_000_000  # two years in µs
    frame = pd.DataFrame(
        {
            "user_id": [f"u{n % 500:03d}" for n in range(2 * count)],
            "item_id": [f"i{n}" for n in range(2 * count)],
            "action": "view",
            "dwell_seconds": None,
            "timestamp": [(2 * count - n) * step for n in range(2 * count)],
            "ordinal": None,
            "place": None,
        }
    )
    chunk = build(pa.Table.from_pandas(frame, schema=PLACED_EVENTS, preserve_index=False), CONFIG)
    assert chunk.sequences.column("user_id").to_pylist() == [f"u{n:03d}" for n in range(500)]
    for number, items in enumerate(chunk.sequences.column("item_ids").to_pylist()):
        assert items == [f"i{number + 500 * turn}" for turn in (3, 2, 1, 0)]

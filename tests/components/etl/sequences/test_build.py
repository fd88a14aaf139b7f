"""The numpy builder against a plain pandas computation, on random logs."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.etl.config import ACTION_WEIGHTS, SequencesConfig
from components.etl.sequences.build import build
from data_contracts.tables import ACTIONS, EVENTS

START = datetime(2025, 1, 1, tzinfo=UTC)
ORDER = ["user_id", "timestamp", "ordinal", "item_id", "action", "dwell_seconds"]


CONFIG = SequencesConfig(min_interactions=3)


def log(rows: list[tuple]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "action", "dwell_seconds", "second"])
    frame["timestamp"] = [START + timedelta(seconds=s) for s in frame.pop("second")]
    frame["ordinal"] = range(len(frame))
    return frame


def as_arrow(frame: pd.DataFrame) -> pa.Table:
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return pa.Table.from_pylist(rows, schema=EVENTS)


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
        frame["ordinal"] = pd.NA  # ties fall to item, action and dwell
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
    assert chunk.duplicates.num_rows == repeated
    assert chunk.dropped_users == frame["user_id"].nunique() - len(expected)


def test_ties_in_time_keep_the_order_of_the_log():
    frame = log([("u", item, "purchase", None, 0) for item in ("z", "a", "m")])
    (row,) = build(as_arrow(frame), CONFIG).sequences.to_pylist()
    assert row["item_ids"] == ["z", "a", "m"]


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
    chunk = build(EVENTS.empty_table(), CONFIG)
    assert (chunk.sequences.num_rows, chunk.dropped_users, chunk.events) == (0, 0, 0)


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
        },
        schema=EVENTS,
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
        }
    )
    chunk = build(pa.Table.from_pandas(frame, schema=EVENTS, preserve_index=False), CONFIG)
    assert chunk.sequences.column("user_id").to_pylist() == [f"u{n:03d}" for n in range(500)]
    for number, items in enumerate(chunk.sequences.column("item_ids").to_pylist()):
        assert items == [f"i{number + 500 * turn}" for turn in (3, 2, 1, 0)]

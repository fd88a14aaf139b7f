"""The summary of the training data, and the drift against the champion's."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.evaluate.config import DriftConfig
from components.evaluate.logged.drift import HEAD, alarms, drift, read_summary, summarise
from data_contracts.evaluation import DataSummary
from data_contracts.tables import CATALOGUE, QUARANTINE, SEQUENCES

TIME = datetime(2026, 1, 1, tzinfo=UTC)
SAME = DataSummary(
    users=100,
    items=10,
    events=1000,
    interactions=1000,
    actions={"like": 0.2, "view": 0.8},
    popular={"a": 0.5, "b": 0.3},
    new_item_share=0.1,
    history_lengths={"up to 8": 1.0},
    refused={},
)


def sequence(user: str, train_end: int, actions: list[str]) -> dict:
    events = [{"position": 0, "action": name, "timestamp": TIME, "dwell_seconds": None} for name in actions]
    number = train_end + 2
    return {
        "user_id": user,
        "item_ids": ["a"] * number,
        "timestamps": [TIME] * number,
        "engagement": [1.0] * number,
        "train_end": train_end,
        "valid_end": train_end + 1,
        "events": events,
    }


def test_a_summary_of_real_tables(tmp_path: Path) -> None:
    item = {"title": "t", "topic": "t", "tags": [], "brand": None, "created_at": None}
    rows = {
        "sequences": (
            SEQUENCES,
            [sequence("u1", 3, ["view", "view", "like"]), sequence("u2", 9, ["view"])],
        ),
        "catalogue": (
            CATALOGUE,
            [{**item, "item_id": name, "train_count": n} for name, n in (("a", 3), ("b", 1), ("c", 0))],
        ),
        "quarantine": (QUARANTINE, [{"table": "events", "reason": "future", "row": "{}"}] * 2),
    }
    for name, (schema, values) in rows.items():
        (tmp_path / name).mkdir()
        pq.write_table(pa.Table.from_pylist(values, schema=schema), tmp_path / name / "part.parquet")
    found = summarise(*(str(tmp_path / name) for name in rows))
    assert (found.users, found.items, found.events, found.interactions) == (2, 3, 4, 4)
    assert found.actions == {"like": 0.25, "view": 0.75}
    assert found.popular == {"a": 0.75, "b": 0.25, "c": 0.0}
    assert found.new_item_share == pytest.approx(1 / 3)
    assert found.history_lengths == {"up to 16": 0.5, "up to 4": 0.5}
    assert found.refused == {"events: future": 2}


def changed(**values: object) -> DataSummary:
    return DataSummary(**{**SAME.__dict__, **values})


@pytest.mark.parametrize(
    ("now", "name", "value"),
    [
        pytest.param(changed(events=250), "volume", 4.0, id="a quarter of the events"),
        pytest.param(changed(events=4000), "volume", 4.0, id="four times the events"),
        pytest.param(changed(actions={"view": 0.6, "like": 0.4}), "actions", 0.2, id="more likes"),
        pytest.param(changed(actions={"click": 1.0}), "actions", 1.0, id="another app"),
        pytest.param(changed(popular={"c": 0.5, "b": 0.3}), "popularity", 0.595, id="another hit"),
        pytest.param(changed(popular={"b": 0.1}), "popularity", 0.856, id="the head is gone"),
        pytest.param(changed(new_item_share=0.4), "new items", 0.3, id="many new items"),
        pytest.param(changed(history_lengths={"up to 16": 1.0}), "history length", 1.0, id="longer"),
    ],
)
def test_a_change_beyond_its_bound_is_an_alarm(now: DataSummary, name: str, value: float) -> None:
    found = drift(DriftConfig(), now, SAME)
    (alarm,) = alarms(found)
    assert (alarm.name, alarm.model) == (f"drift of {name}", "the log")
    assert alarm.value == pytest.approx(value, abs=0.005)


@pytest.mark.parametrize(
    ("items", "slope", "events"),
    [
        pytest.param(300, 1.0, 20_000, id="small"),
        pytest.param(12_000, 0.7, 20_000, id="the head holds a third of the interactions"),
        pytest.param(100_000, 1.0, 20_000, id="large"),
    ],
)
def test_two_halves_of_one_log_do_not_drift_and_a_half_replaced_head_does(items, slope, events) -> None:
    generator = np.random.default_rng(0)
    shares = np.arange(1, items + 1) ** -slope
    replaced = shares.copy()
    head = min(HEAD, items // 2)
    gone = generator.choice(head, head // 2, replace=False)
    risen = generator.choice(np.arange(items // 2, items), head // 2, replace=False)
    replaced[gone], replaced[risen] = shares[risen], shares[gone]

    def drawn(weights: np.ndarray) -> DataSummary:
        counts = generator.multinomial(events, weights / weights.sum())
        first = np.argsort(-counts, kind="stable")[:HEAD]
        return changed(popular={f"i{i}": counts[i] / events for i in first}, interactions=events)

    then = drawn(shares)
    assert alarms(drift(DriftConfig(), drawn(shares), then)) == []
    (alarm,) = alarms(drift(DriftConfig(), drawn(replaced), then))
    assert alarm.name == "drift of popularity"


def test_equal_data_do_not_drift() -> None:
    found = drift(DriftConfig(), SAME, SAME)
    assert [one.value for one in found] == pytest.approx([1.0, 0.0, 0.0, 0.0, 0.0])
    assert alarms(found) == []


def test_the_summary_lies_with_the_champion(tmp_path: Path) -> None:
    assert read_summary(None) is None
    assert read_summary(tmp_path) is None
    (tmp_path / "data_summary.json").write_text(SAME.to_json())
    assert read_summary(tmp_path) == SAME


def test_a_champion_of_another_version_of_the_project_has_no_drift(tmp_path: Path, caplog) -> None:
    (tmp_path / "data_summary.json").write_text(SAME.to_json().replace('"users"', '"people"'))
    assert read_summary(tmp_path) is None
    assert "the champion's summary of its data has another form" in caplog.text

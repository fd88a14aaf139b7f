"""The whole sequences step on generated logs: what comes out, what is refused, what repeats."""

import hashlib
import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.etl.config import SequencesConfig
from components.etl.sources.raw import validate_raw
from components.shared.errors import ContractError, DataError
from data_contracts import tables
from pipelines.datasets.synthetic.config import SampleConfig
from pipelines.datasets.synthetic.log import generate


def digest(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*.parquet"))
    }


def test_tables_have_exactly_the_contracts_types(prepared):
    for name in ("sequences", "catalogue", "users", "exposures", "quarantine"):
        schema = getattr(tables, name.upper())
        files = list((prepared.folder / name).iterdir())
        assert files
        for file in files:
            assert pq.read_schema(file) == schema, file


def test_sequences_equal_a_plain_computation(prepared):
    events = pq.read_table(prepared.data / "events.parquet").to_pylist()
    events.sort(key=lambda e: (e["user_id"], e["timestamp"], e["ordinal"]))
    expected: dict[str, list[str]] = {}
    for event in events:
        items = expected.setdefault(event["user_id"], [])
        if event["item_id"] not in items:
            items.append(event["item_id"])
    expected = {user: items for user, items in expected.items() if len(items) >= 5}
    found = {row["user_id"]: row["item_ids"] for row in prepared.table("sequences")}
    assert found == expected


def test_train_count_counts_train_positions_only(prepared):
    counts: dict[str, int] = {}
    for row in prepared.table("sequences"):
        for item in row["item_ids"][: row["train_end"]]:
            counts[item] = counts.get(item, 0) + 1
    catalogue = prepared.table("catalogue")
    assert {row["item_id"]: row["train_count"] for row in catalogue if row["train_count"]} == counts
    assert len(catalogue) == 150
    assert all(row["title"] and row["topic"] == row["tags"][0] for row in catalogue)


def test_the_same_input_gives_the_same_bytes(prepared, run_step, tmp_path):
    run_step(prepared.data, tmp_path)
    names = ("sequences", "catalogue", "users", "exposures", "quarantine")
    first = {name: digest(prepared.folder / name) for name in names}
    assert {name: digest(tmp_path / name) for name in names} == first


def test_dirty_rows_are_quarantined_and_change_nothing(prepared, run_step, tmp_path):
    generate(SampleConfig(users=60, items=150, items_per_user=9, seed=3, dirty_share=0.04), tmp_path / "data")
    report = run_step(tmp_path / "data", tmp_path / "out")
    assert digest(tmp_path / "out" / "sequences") == digest(prepared.folder / "sequences")
    refused = pq.read_table(tmp_path / "out" / "quarantine").to_pylist()
    assert len(refused) == report.events_quarantined
    kinds = {
        "null_user_id",
        "null_item_id",
        "unknown_item",
        "unknown_action",
        "future",
        "pre_epoch",
    }
    assert {row["reason"] for row in refused} == kinds | {"duplicate"}
    page = (tmp_path / "out" / "docs.html").read_text()
    assert "unknown_action" in page and "raw_events" in page and not re.search(r'(src|href)="http', page)


def test_too_many_dirty_rows_stop_the_run_and_leave_no_output(run_step, tmp_path):
    generate(SampleConfig(users=20, items=50, dirty_share=0.3, exposures=False), tmp_path / "data")
    with pytest.raises(ContractError, match=r"max_quarantine_share=0.05; sample rows: \[") as failure:
        run_step(tmp_path / "data", tmp_path / "out")
    assert "null_user_id" in str(failure.value)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["docs.html"]


def test_temporal_split_counts_windows_from_the_end(prepared, run_step, tmp_path):
    run_step(prepared.data, tmp_path, split="temporal", as_of="2025-02-20", valid_days=5, test_days=10)
    for row in pq.read_table(tmp_path / "sequences").to_pylist():
        days = [time.strftime("%Y-%m-%d") for time in row["timestamps"]]
        assert max(days) < "2025-02-20"
        assert row["train_end"] == sum(day < "2025-02-05" for day in days)
        assert row["valid_end"] == sum(day < "2025-02-10" for day in days)


@pytest.mark.parametrize("number", [1, 150])
def test_an_outlier_in_time_is_named_before_anything_trains(prepared, run_step, tmp_path, number):
    shutil.copytree(prepared.data, tmp_path / "data")
    events = pq.read_table(prepared.data / "events.parquet")
    late = events.slice(0, 1).to_pylist()[0] | {"timestamp": datetime(2026, 11, 1, 12, tzinfo=UTC)}
    repeats = [late | {"timestamp": late["timestamp"] - timedelta(seconds=n)} for n in range(number)]
    outlier = pa.Table.from_pylist(repeats, schema=events.schema)
    pq.write_table(pa.concat_tables([events, outlier]), tmp_path / "data/events.parquet")
    last = max(events["timestamp"].to_pylist()) + timedelta(days=1)
    message = (
        rf"0 of .* event of 2026-11-01 \(user '{late['user_id']}'.*sequences.as_of: {last:%Y-%m-%d} ends"
    )
    with pytest.raises(DataError, match=message):
        run_step(tmp_path / "data", tmp_path / "out", split="temporal")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["docs.html"]


def test_users_who_alone_go_on_past_the_log_are_named(prepared, run_step, tmp_path):
    """Without a gap: two accounts of bots, with an event of a new item each day for months."""
    shutil.copytree(prepared.data, tmp_path / "data")
    events = pq.read_table(prepared.data / "events.parquet")
    first, last = events.slice(0, 1).to_pylist()[0], max(events["timestamp"].to_pylist())
    items = pq.read_table(prepared.data / "items.parquet")["item_id"].to_pylist()
    rows = [
        first | {"user_id": user, "item_id": items[day], "timestamp": last + timedelta(days=day)}
        for day in range(1, 101)
        for user in ("bot-1", "bot-2")
    ]
    alone = pa.Table.from_pylist(rows, schema=events.schema)
    pq.write_table(pa.concat_tables([events, alone]), tmp_path / "data/events.parquet")
    message = (
        rf"leaves 2 of .* event of {last + timedelta(days=100):%Y-%m-%d} \(user 'bot-[12]', .* outlier. 2 of "
        rf".*end with {last:%Y-%m-%d}; sequences.as_of: {last + timedelta(days=1):%Y-%m-%d} ends"
    )
    with pytest.raises(DataError, match=message):
        run_step(tmp_path / "data", tmp_path / "out", split="temporal")


@pytest.mark.parametrize("window", [{"as_of": "2025-01-15"}, {"core": 2}])
def test_the_share_of_faulty_rows_is_one_of_all_rows(run_step, tmp_path, window):
    """Also where a window or a core leaves most rows out: what is refused lies on both sides."""
    generate(
        SampleConfig(users=60, items=150, items_per_user=9, seed=3, dirty_share=0.045), tmp_path / "data"
    )
    report = run_step(tmp_path / "data", tmp_path / "out", **window)
    rows = pq.read_metadata(tmp_path / "data/events.parquet").num_rows
    assert report.events_read == rows
    assert report.events_kept + report.events_quarantined < rows
    with pytest.raises(DataError, match=r"no usable event is left .as_of='2000-01-01'"):
        run_step(tmp_path / "data", tmp_path / "none", as_of="2000-01-01")


def test_nobody_with_enough_items_is_an_error(prepared, run_step, tmp_path):
    with pytest.raises(DataError, match="min_interactions"):
        run_step(prepared.data, tmp_path, min_interactions=500)
    assert not (tmp_path / "sequences").exists()


def test_validate_runs_the_contracts_alone(prepared, spark_config, tmp_path):
    quarantine = validate_raw(SequencesConfig(spark=spark_config), str(prepared.data), tmp_path / "docs.html")
    assert quarantine.tallies["users"].rows == 60
    assert not any(found.refused or found.unread for found in quarantine.tallies.values())
    assert [p.name for p in tmp_path.iterdir()] == ["docs.html"]


def test_validate_and_the_step_find_the_same(run_step, spark_config, tmp_path, caplog):
    caplog.set_level("INFO", logger="recllm")
    sample = SampleConfig(users=60, items=150, items_per_user=9, seed=3, dirty_share=0.045)
    generate(sample, tmp_path / "data")
    found = validate_raw(
        SequencesConfig(spark=spark_config), str(tmp_path / "data"), tmp_path / "validate.html"
    ).tallies["events"]
    assert found.refused["duplicate"] and found.unread["dwell_seconds"]
    caplog.clear()
    assert found.refused == run_step(tmp_path / "data", tmp_path / "out").reasons
    (line,) = (line for line in caplog.messages if "refused: duplicate" in line)
    for example in (line.partition("such as ")[2], found.examples["duplicate"]):
        assert re.match(rf"{tmp_path}/data/events\.parquet, row [\d,]+: {{.*\"user_id\"", example), example


def test_a_quarantined_share_of_users_counts_too(prepared, run_step, tmp_path):
    import shutil

    import pyarrow as pa

    shutil.copytree(prepared.data, tmp_path / "data")
    users = pq.read_table(tmp_path / "data/users.parquet")
    pq.write_table(pa.concat_tables([users, users.slice(0, 2)]), tmp_path / "data/users.parquet")
    run_step(tmp_path / "data", tmp_path / "out")
    refused = pq.read_table(tmp_path / "out/quarantine").to_pylist()
    assert [(row["table"], row["reason"]) for row in refused] == [("users", "duplicate")] * 2
    with pytest.raises(ContractError, match="raw_users"):
        run_step(tmp_path / "data", tmp_path / "strict", max_quarantine_share=0.01)


def _exposed(folder: Path, lists: list[dict]) -> None:
    rows = [{"user_id": None, "timestamp": None, "item_ids": None, **row} for row in lists]
    schema = pa.schema([f.with_nullable(True) for f in tables.EXPOSURES])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "exposures.parquet")


def test_exposures_of_kept_users_come_through(prepared):
    shown = pq.read_table(prepared.data / "exposures.parquet").to_pylist()
    kept = {row["user_id"] for row in prepared.table("sequences")}
    expected = sorted(
        ({**r, "propensities": None} for r in shown if r["user_id"] in kept),
        key=lambda r: (r["user_id"], r["timestamp"]),
    )
    found = sorted(prepared.table("exposures"), key=lambda r: (r["user_id"], r["timestamp"]))
    assert found == expected and found


def test_faulty_exposures_are_quarantined(prepared, run_step, tmp_path):
    shutil.copytree(prepared.data, tmp_path / "data")
    good = pq.read_table(prepared.data / "exposures.parquet").to_pylist()
    user, time = good[0]["user_id"], good[0]["timestamp"]
    bad = {
        "null_user_id": {"timestamp": time, "item_ids": ["item-1"]},
        "null_timestamp": {"user_id": user, "item_ids": ["item-1"]},
        "empty_list": {"user_id": user, "timestamp": time, "item_ids": []},
        "null_item_id": {"user_id": user, "timestamp": time, "item_ids": ["item-1", None]},
        "future": {"user_id": user, "timestamp": time.replace(year=2999), "item_ids": ["item-1"]},
        "wrong_propensities": {
            "user_id": user,
            "timestamp": time,
            "item_ids": ["item-1", "item-2"],
            "propensities": [0.5, 0.0],
        },
        "not_separated": {"user_id": user, "timestamp": time, "item_ids": ["['item-1'\n 'item-2']"]},
    }
    good.append({"user_id": user, "timestamp": time, "item_ids": ["[item-1]"], "propensities": [0.25]})
    _exposed(tmp_path / "data", [*good, *bad.values()])
    run_step(tmp_path / "data", tmp_path / "out", as_of="2025-02-20")
    refused = [
        r["reason"]
        for r in pq.read_table(tmp_path / "out/quarantine").to_pylist()
        if r["table"] == "exposures"
    ]
    assert sorted(refused) == sorted(bad)
    times = pq.read_table(tmp_path / "out/exposures")["timestamp"].to_pylist()
    assert times and max(times).strftime("%Y-%m-%d") < "2025-02-20"
    assert "raw_exposures" in (tmp_path / "out/docs.html").read_text()


@pytest.mark.slow
def test_lists_may_lie_elsewhere_or_be_missing(prepared, run_step, tmp_path):
    data, lists = tmp_path / "data", tmp_path / "lists"
    shutil.copytree(prepared.data, data)
    (data / "exposures.parquet").unlink()
    run_step(data, tmp_path / "without")
    assert pq.read_table(tmp_path / "without/exposures").num_rows == 0
    with pytest.raises(DataError, match="lists: no such folder"):
        run_step(data, tmp_path / "nowhere", exposures=str(lists))
    lists.mkdir()
    shown = pq.read_table(prepared.data / "exposures.parquet").to_pylist()[:20]
    shown = [row | {"item_ids": row["item_ids"][:2]} for row in shown]
    lines = [
        json.dumps({**row, "timestamp": row["timestamp"].isoformat(), "propensities": "0.5|0.25"})
        for row in shown
    ]
    (lists / "exposures.jsonl").write_text("\n".join(lines))
    run_step(data, tmp_path / "elsewhere", exposures=str(lists))
    kept = {row["user_id"] for row in prepared.table("sequences")}
    expected = [row for row in shown if row["user_id"] in kept]
    written = pq.read_table(tmp_path / "elsewhere/exposures")
    assert written["propensities"].to_pylist() == [[0.5, 0.25]] * len(expected)
    assert expected

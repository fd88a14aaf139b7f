"""Delta tables through the whole step: what was erased or overwritten stays gone."""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from components.etl.config import SequencesConfig
from components.etl.sources.raw import validate_raw
from components.shared.artifacts.storage import upload
from components.shared.errors import DataError
from tests.components.shared.artifacts.s3_server import serving

ERASED, CHANGED = "erased", "changed"


@pytest.fixture(scope="module")
def tables(sample_folder) -> dict[str, pa.Table]:
    """The sample log; the two most active users are called ERASED and CHANGED."""
    found = {name: pq.read_table(sample_folder / f"{name}.parquet") for name in ("users", "items", "events")}
    counts = Counter(found["events"]["user_id"].to_pylist())
    users = sorted(found["users"]["user_id"].to_pylist(), key=lambda user: -counts[user])
    names = pa.array([ERASED, CHANGED, *users[2:]])
    for name in ("users", "events"):
        new = names.take(pc.index_in(found[name]["user_id"], pa.array(users)))
        found[name] = found[name].set_column(found[name].schema.get_field_index("user_id"), "user_id", new)
    return found


@pytest.fixture(scope="module")
def lake(tables, tmp_path_factory):
    """The log as Delta tables: titles overwritten, a user erased, events compacted and partitioned."""
    folder = tmp_path_factory.mktemp("lake")
    users, items, events = (str(folder / name) for name in ("users", "items", "events"))
    write_deltalake(users, tables["users"])
    DeltaTable(users).delete(f"user_id = '{ERASED}'")
    old = tables["items"].set_column(1, "title", pa.repeat("Old title", tables["items"].num_rows))
    write_deltalake(items, old.select(["item_id", "title"]))
    write_deltalake(items, tables["items"], mode="overwrite", schema_mode="overwrite")
    half = tables["events"].num_rows // 2
    write_deltalake(events, tables["events"].slice(0, half), partition_by=["action"])
    write_deltalake(events, tables["events"].slice(half), mode="append")
    DeltaTable(events).delete(f"user_id = '{ERASED}'")
    DeltaTable(events).update(predicate=f"user_id = '{CHANGED}'", new_values={"dwell_seconds": "7.25"})
    DeltaTable(events).optimize.compact()
    return folder


@pytest.fixture(params=["folder", "s3"])
def location(request, lake, tmp_path, monkeypatch):
    """Where the Delta tables are: a folder, or object storage."""
    if request.param == "folder":
        yield str(lake)
        return
    with serving(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        (tmp_path / "empty").mkdir()
        uri = server.upload(tmp_path / "empty", "lake", "day")
        for file in lake.rglob("*.*"):
            if file.is_file() and not file.name.startswith("."):
                upload(file, f"{uri}/{file.relative_to(lake)}")
        yield uri


def test_the_step_reads_what_the_tables_hold_now(location, tables, run_step, tmp_path):
    live = {
        name: table.filter(pc.not_equal(table["user_id"], ERASED))
        if "user_id" in table.column_names
        else table
        for name, table in tables.items()
    }
    report = run_step(location, tmp_path / "out")
    assert report.events_read == live["events"].num_rows
    rows = {
        name: pq.read_table(tmp_path / "out" / name).to_pylist()
        for name in ("sequences", "users", "catalogue")
    }
    seen: dict[str, set[str]] = {}
    for event in live["events"].to_pylist():
        seen.setdefault(event["user_id"], set()).add(event["item_id"])
    found = {row["user_id"]: set(row["item_ids"]) for row in rows["sequences"]}
    assert found == {user: items for user, items in seen.items() if len(items) >= 5}
    assert ERASED not in {row["user_id"] for row in rows["users"]} | found.keys()
    dwell = {row["user_id"]: {event["dwell_seconds"] for event in row["events"]} for row in rows["sequences"]}
    assert dwell.pop(CHANGED) == {7.25} and all(seconds != {7.25} for seconds in dwell.values())
    assert "Old title" not in {row["title"] for row in rows["catalogue"]}


def test_a_folder_of_hudi_files_stops_validate_by_name(sample_folder, tmp_path):
    (tmp_path / "events/.hoodie").mkdir(parents=True)
    (tmp_path / "events/.hoodie/hoodie.properties").write_text("hoodie.table.name=events")
    for name in ("users", "items", "events"):
        table = pq.read_table(sample_folder / f"{name}.parquet")
        pq.write_table(table, tmp_path / (f"{name}/1.parquet" if name == "events" else f"{name}.parquet"))
    with pytest.raises(DataError, match=r"events: a table of Apache Hudi .*export its current state"):
        validate_raw(SequencesConfig(), str(tmp_path), tmp_path / "docs.html")

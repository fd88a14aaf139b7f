"""What real tables bring in: mangled ids, null words, mended values, rows with one id, odd types."""

import re
import shutil
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.etl.config import SequencesConfig
from components.etl.contracts import DataDocs
from components.etl.sources import raw
from components.etl.sources.tally import groups, tally
from components.shared.artifacts import raw_tables
from components.shared.artifacts.storage import Folder
from components.shared.errors import ContractError

HEADER = "user_id,item_id,action,timestamp,dwell_seconds"


def tables(folder, **texts):
    """Write CSV tables of one user and item; `texts` replace whole tables."""
    usual = {
        "users": "user_id\nu1\n",
        "items": "item_id,title\ni1,Tea\n",
        "events": f"{HEADER}\nu1,i1,view,10,1\n",
    }
    folder.mkdir(exist_ok=True)
    for name, text in (usual | texts).items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def tallies(spark, folder, **config):
    found = {name: raw_tables.locate(Folder.at(folder), name) for name in ("users", "items", "events")}
    for source in found.values():
        raw_tables.check(source)
    frames = raw.read_raw(spark, SequencesConfig(**config), found)
    return {name: tally(found[name], groups(frame).collect()) for name, frame in frames.items()}, frames


def test_ids_that_were_numbers_or_null_words_are_named_with_file_and_row(spark, tmp_path):
    users = ("nan", "\\N", "NULL", "None", " ", "7.30123E+18", "1e+5", "1.0", "12e5", "u.1", "na", "u\0\0")
    rows = [f"{user},i1,view,{n + 10},1" for n, user in enumerate(users)]
    rows += ["u1,nan,view,1,1", "u1,1.0,view,1,1", "u1,i1,None,1,1", "u1,x,view,1,1", "u1,i1,x,1,1"]
    data = tables(tmp_path / "data", events="\n".join([HEADER, *rows, ""]))
    found, _ = tallies(spark, data)
    of_users = {"control_user_id": 1, "decimal_user_id": 1, "exponent_user_id": 2, "null_user_id": 6}
    unknown = {"decimal_item_id": 1, "unknown_action": 1, "unknown_item": 1}
    assert found["events"].refused == {**of_users, **unknown, "null_action": 1, "null_item_id": 1}
    assert found["events"].rows == len(rows)
    example = found["events"].examples["exponent_user_id"]
    assert example.startswith(f"{data}/events.csv, row 6: {{") and "7.30123E+18" in example
    kept, _ = tallies(spark, data, null_words=())
    of_users["null_user_id"] = 1
    assert kept["events"].refused == {**of_users, **unknown, "unknown_action": 2, "unknown_item": 2}


def test_rows_of_parts_are_numbered_in_their_file(spark, tmp_path):
    data = tables(tmp_path / "data")
    (data / "events.csv").unlink()
    (data / "events").mkdir()
    for number in range(3):
        lines = [HEADER, *["u1,i1,view,10,1"] * (number + 1), *([f"u1,i1,view,{number},x"] if number else [])]
        (data / f"events/part-{number}.csv").write_text(
            "\n".join([*lines, f"u1,i1,dance,1{number},1"]) + "\n"
        )
    found, _ = tallies(spark, data)
    assert found["events"].refused == {"unknown_action": 3}
    assert found["events"].examples["unknown_action"].startswith(f"{data}/events/part-0.csv, row 2: ")
    assert found["events"].unread == {"dwell_seconds": 2}
    assert (
        found["events"].examples["unreaddwell_seconds"] == f"{data}/events/part-1.csv, row 3: dwell_seconds=x"
    )


@pytest.mark.slow
def test_optional_values_cost_no_row_and_of_rows_with_one_id_the_fuller_wins(spark, tmp_path):
    users = "user_id,age,gender,city_tier,interests\n" + "".join(
        [
            "a,21.0,f,,tea\n",
            "b,unknown,f,,\n",
            "c,NaN,nan,2,tea|chess\n",
            "d,,f,,\n",
            "d,30,,1,\n",
            "d,31,,1,\n",
            "e,21.5,f,,\n",
            "f,-1,f,,\n",
        ]
    )
    items = "item_id,title,created_at,tags\ni1,Tea,0000-00-00,\"['a', 'b']\"\ni2,None,2025-01-05T16:46Z,\n"
    found, frames = tallies(spark, tables(tmp_path / "data", users=users, items=items))
    assert found["users"].refused == {"duplicate": 2} and found["users"].unread == {"age": 3}
    valid = {row.user_id: row for row in frames["users"].where("fault is null").collect()}
    assert {user: row.age for user, row in valid.items()} == {
        "a": 21,
        "b": None,
        "c": None,
        "d": 31,
        "e": None,
        "f": None,
    }
    assert (valid["d"].gender, valid["d"].city_tier, valid["c"].gender) == ("f", "1", None)
    assert found["items"].refused == {} and found["items"].unread == {"created_at": 1}
    titles = {row.item_id: (row.title, row.tags) for row in frames["items"].collect()}
    assert titles == {"i1": ("Tea", ["a", "b"]), "i2": (None, None)}


def test_parquet_of_any_writer_is_read(spark, tmp_path):
    data = tables(tmp_path / "data")
    for name in ("users", "items"):
        (data / f"{name}.csv").unlink()
        (data / name).mkdir()
    views = {"user_id": pa.array(["u1"], pa.string_view()), "age": pa.array([21.0])}
    lists = pa.array([["a", "b"]], pa.list_(pa.large_string(), 2))
    pq.write_table(pa.table({**views, "interests": lists}), data / "users/part-0.parquet")
    empty = pa.table({"user_id": pa.nulls(0), "age": pa.nulls(0), "interests": pa.nulls(0)})
    pq.write_table(empty, data / "users/part-1.parquet")
    coded = pa.array(["u2"]).dictionary_encode()
    nulls = {"age": pa.nulls(1), "interests": pa.array([[]], pa.list_(pa.null()))}
    pq.write_table(pa.table({"user_id": coded, **nulls}), data / "users/part-2.parquet")
    pq.write_table(
        pa.table({"user_id": pa.array([b"u3"]), "age": ["7"], "interests": ["x|y"]}),
        data / "users/part-3.parquet",
    )
    odd = {"item_id": ["i1", "i2"], "title": [1984, 2001], "created_at": [1736035200, None]}
    odd |= {"brand": [{"id": 7, "since": datetime(2025, 1, 5)}] * 2, "categories": [[["a"], ["b"]], None]}
    pq.write_table(
        pa.table({**odd, "tags": pa.array([["a"], None], pa.large_list(pa.string()))}),
        data / "items/p.parquet",
    )
    found, frames = tallies(spark, data)
    assert [t.refused for t in found.values()] == [{}, {}, {}]
    assert found["items"].unread == {"brand": 2, "categories": 2}
    assert re.search(r"p\.parquet, row 1: brand=of type struct<id", found["items"].examples["unreadbrand"])
    users = {row.user_id: (row.age, row.interests) for row in frames["users"].collect()}
    assert users == {"u1": (21, ["a", "b"]), "u2": (None, None), "u3": (7, ["x", "y"])}
    items = frames["items"].selectExpr("title", "unix_seconds(created_at)", "tags").orderBy("title").collect()
    assert [tuple(row) for row in items] == [("1984", 1736035200, ["a"]), ("2001", None, None)]


def test_a_day_of_creation_beyond_the_calendar_is_unknown_and_counted(spark, tmp_path):
    """Milliseconds, read as seconds, would be days that no later step can hold."""
    days = ("1546300800000", "2019-01-01", "-99999999999")
    items = "item_id,title,created_at\n" + "".join(f"i{n},T,{day}\n" for n, day in enumerate(days))
    found, frames = tallies(spark, tables(tmp_path / "data", items=items))
    assert (found["items"].refused, found["items"].unread) == ({}, {"created_at": 2})
    read = frames["items"].selectExpr("item_id", "unix_seconds(created_at)").collect()
    assert {tuple(row) for row in read} == {("i0", None), ("i1", 1546300800), ("i2", None)}


@pytest.mark.slow
def test_json_parts_as_spark_writes_them_are_read(spark, tmp_path):
    data = tables(tmp_path / "data")
    (data / "items.csv").unlink()
    rows = [("i1", "Tea", ["a", "b"]), ("i2", 'A "big" box', None)]
    spark.createDataFrame(rows, "item_id string, title string, tags array<string>").write.json(
        str(data / "items")
    )
    _, frames = tallies(spark, data)
    assert {tuple(r[:2]) for r in frames["items"].select("item_id", "title").collect()} == {
        r[:2] for r in rows
    }
    assert frames["items"].where("item_id = 'i1'").collect()[0].tags == ["a", "b"]


def test_dialects_are_read_as_they_are_written(spark, tmp_path):
    items = "item_id;title;tags\ni1; 'Tea; \"green\"'; a|b\ni2;'Pot'; 'c'\n"
    quoted = f'{HEADER}\n"u1","i1","view","10","1"\n'
    _, frames = tallies(spark, tables(tmp_path / "data", items=items, events=quoted))
    assert [tuple(row) for row in frames["items"].select("title", "tags").orderBy("item_id").collect()] == [
        ('Tea; "green"', ["a", "b"]),
        ("Pot", ["c"]),
    ]
    spark_csv = tmp_path / "spark"
    shutil.copytree(tmp_path / "data", spark_csv)
    (spark_csv / "items.csv").unlink()
    titles = ['He said "hi", he', 'a "b"', 'back\\slash "x"', "plain"]
    spark.createDataFrame(
        [(f"i{n}", t) for n, t in enumerate(titles)], "item_id string, title string"
    ).coalesce(1).write.option("header", True).csv(str(spark_csv / "items"))
    _, frames = tallies(spark, spark_csv)
    read = [row.title for row in frames["items"].orderBy("item_id").collect()]
    assert [read[n] for n in (0, 1, 3)] == [titles[n] for n in (0, 1, 3)]


@pytest.mark.parametrize("key", ["user_id", "item_id"])
def test_ids_of_the_log_without_a_row_are_counted_and_bounded(spark, key):
    table, docs = key.replace("_id", "s"), DataDocs()
    log = spark.createDataFrame([("007",), ("008",)], f"{key} string")
    rows = spark.createDataFrame([("7",), ("8",)], f"{key} string")
    with pytest.raises(
        ContractError, match=rf"2 of 3 {table} .*\(66.7%\).*the log has '007', {table} has '7'.*leading zeros"
    ):
        raw.check_ids(SequencesConfig(), docs, key, log, lambda: 3, rows)
    assert docs.counts[f"Ids of the log in {table}"] == {"without a row": 2, "with a row": 1}
    raw.check_ids(SequencesConfig(**{f"max_unknown_{table}": 1.0}), docs, key, log, lambda: 3, rows)
    raw.check_ids(SequencesConfig(), docs, key, log.limit(0), lambda: 1 / 0, rows)
    assert docs.counts[f"Ids of the log in {table}"] == {"without a row": 0}


@pytest.mark.slow
def test_many_rare_items_without_a_row_stop_a_run_that_few_rows_would_not(run_step, tmp_path):
    events = [
        f"u{user},i{item},view,{20000 + 100 * user + item},1" for user in range(40) for item in range(5)
    ]
    events += [f"u0,x{n},view,{50000 + n},1" for n in range(6)]
    data = tables(
        tmp_path / "data",
        users="user_id\n" + "".join(f"u{n}\n" for n in range(40)),
        items="item_id,title\n" + "".join(f"i{n},T\n" for n in range(5)),
        events="\n".join([HEADER, *events, ""]),
    )
    with pytest.raises(ContractError, match=r"6 of 11 items .*max_unknown_items=0.5: the log has 'x0'"):
        run_step(data, tmp_path / "out")
    assert not (tmp_path / "out/sequences").exists()
    run_step(data, tmp_path / "out", max_unknown_items=0.6)
    assert "Ids of the log in items" in (tmp_path / "out/docs.html").read_text()


def test_a_table_that_is_refused_whole_gets_advice_that_fits(spark, tmp_path):
    data = tables(tmp_path / "data", users="user_id\n1.0\n2.0\n")
    found = {"users": raw_tables.locate(Folder.at(data), "users")}
    frames = {"users": raw.faults.keyed_faults(raw.read(spark, found["users"]), "user_id")}
    with pytest.raises(ContractError, match=r"2 of 2 rows .*row 1.*export them as text$") as failure:
        raw.check_raw(SequencesConfig(max_quarantine_share=1.0), frames, found, DataDocs())
    assert "or raise max_quarantine_share" not in str(failure.value)

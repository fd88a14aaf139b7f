"""Other people's files, columns and actions: the shapes of two public logs, in every format."""

import csv
import json
import re
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from components.etl.config import SequencesConfig
from components.etl.sources.readers import read
from components.shared.artifacts import raw_tables
from components.shared.artifacts.raw_sources import RawSource
from components.shared.artifacts.storage import Folder
from components.shared.config import from_mapping
from components.shared.errors import ConfigError, DataError

README = Path(__file__).parents[4] / "data_contracts/README.md"
DESKDROP, RETAILROCKET = (
    yaml.safe_load(text)["sequences"]["sources"]
    for text in re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
)
"""The recipes as people copy them: DeskDrop has no users, RetailRocket neither users nor items."""


def sources(given: dict) -> SequencesConfig:
    return from_mapping(SequencesConfig, {"sources": given}, "sequences")


def table_of(spark, folder: Path, table: str, given: dict) -> list[dict]:
    source = raw_tables.locate(Folder.at(folder), table, sources(given).sources.of(table))
    raw_tables.check(source)
    return [row.asDict() for row in read(spark, source).orderBy("place").collect()]


def write(folder: Path, name: str, rows: list[dict], form: str) -> None:
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    elif form == "jsonl":
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(rows[0]), *(",".join(str(v) for v in row.values()) for row in rows)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_columns_actions_and_milliseconds(spark, tmp_path: Path, form: str) -> None:
    rows = [
        {"timestamp": 1433221332117, "visitorid": 257597, "event": "view", "itemid": 355908, "user_id": "no"},
        {
            "timestamp": 1433224214164,
            "visitorid": 992329,
            "event": "transaction",
            "itemid": 7,
            "user_id": "no",
        },
        {"timestamp": 1433224214000, "visitorid": 992329, "event": "odd", "itemid": 7, "user_id": "no"},
    ]
    if form == "csv":
        rows[1]["timestamp"] = "1.433224214164E12"
    if form == "parquet":
        rows = [row | {"visitorid": str(row["visitorid"]), "itemid": str(row["itemid"])} for row in rows]
        times = [
            pa.scalar(row["timestamp"], pa.int64()).cast(pa.timestamp("ms", "UTC")).as_py() for row in rows
        ]
        rows = [row | {"timestamp": time} for row, time in zip(rows, times, strict=True)]
    write(tmp_path, "events", rows, form)
    found = table_of(spark, tmp_path, "events", RETAILROCKET)
    assert [(row["user_id"], row["item_id"], row["action"]) for row in found] == [
        ("257597", "355908", "view"),
        ("992329", "7", "purchase"),
        ("992329", "7", "odd"),  # an action that nobody named is a fault, later
    ]
    assert found[0]["timestamp"].isoformat().startswith("2015-06-02T")
    assert [row["timestamp"].microsecond for row in found] == [117_000, 164_000, 0]


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.float64(), pa.decimal128(19, 0), pa.string(), pa.timestamp("ms", "UTC")], ids=str
)
def test_milliseconds_have_any_type(spark, tmp_path: Path, kind: pa.DataType) -> None:
    """Pandas writes whole numbers as floats where one is missing."""
    created = pa.array([1433221332117, None]).cast(kind)
    items = pa.table({"item_id": ["a", "b"], "title": ["A", "B"], "created_at": created})
    pq.write_table(items, tmp_path / "items.parquet")
    found = table_of(spark, tmp_path, "items", {"items": {"time_unit": "ms"}})
    moment = datetime(2015, 6, 2, 5, 2, 12, 117000)
    assert [row["created_at"].replace(tzinfo=None) for row in found if row["created_at"]] == [moment]


def test_one_column_may_stand_for_two(spark, tmp_path: Path) -> None:
    write(tmp_path, "items", [{"sku": "a1"}, {"sku": "b2"}], "csv")
    given = {"items": {"columns": {"item_id": "sku", "title": "sku"}}}
    found = table_of(spark, tmp_path, "items", given)
    assert [(row["item_id"], row["title"]) for row in found] == [("a1", "a1"), ("b2", "b2")]


def write_csv(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.slow
def test_a_log_in_deskdrops_shape_runs_as_it_is(tmp_path: Path, run_step) -> None:
    agent = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_2) AppleWebKit/537.36 (KHTML, like Gecko)"
    kinds = ["VIEW", "LIKE", "BOOKMARK", "FOLLOW", "COMMENT CREATED"]
    events = [
        {
            "timestamp": 1465413032 + 60 * user + 3600 * item,
            "eventType": kinds[(user + item) % 5],
            "contentId": -3499919498720038879 + item,
            "personId": -8845298781299428018 + user,
            "sessionId": 1264196770339959068,
            "userAgent": agent if user % 2 else "",
            "userRegion": "NY" if user % 2 else "",
            "userCountry": "US" if user % 2 else "",
        }
        for user in range(9)
        for item in range(6)
    ]
    articles = [
        {
            "timestamp": 1459192779 + removed,
            "eventType": "CONTENT REMOVED" if removed else "CONTENT SHARED",
            "contentId": -3499919498720038879 + item,
            "authorPersonId": 4340306774493623681,
            "authorUserAgent": "",
            "contentType": "HTML",
            "url": "http://www.nytimes.com/2016/03/28/business/dealbook/ethereum.html",
            "title": f'Article {item}, "quoted"',
            "text": 'All of this work is still very early.\nThe first "full" version, one,\n\nwas released.',
            "lang": "en",
        }
        for item, removed in [(0, 1), *((item, 0) for item in range(40))]
    ]
    write_csv(tmp_path / "users_interactions.csv", events)
    write_csv(tmp_path / "shared_articles.csv", articles)
    report = run_step(tmp_path, tmp_path / "out", sources=sources(DESKDROP).sources)
    assert (report.events_read, report.reasons) == (54, {})
    sequences = pq.read_table(tmp_path / "out/sequences").to_pylist()
    assert len(sequences) == 9 and {len(row["item_ids"]) for row in sequences} == {6}
    actions = {event["action"] for row in sequences for event in row["events"]}
    assert actions == {"view", "like", "save", "follow", "comment"}
    catalogue = pq.read_table(tmp_path / "out/catalogue", columns=["title", "created_at"]).to_pylist()
    assert {row["title"] for row in catalogue} == {f'Article {item}, "quoted"' for item in range(40)}
    assert {str(row["created_at"])[:10] for row in catalogue} == {"2016-03-28"}


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_log_in_retailrockets_shape_runs_as_it_is(tmp_path: Path, run_step, form: str) -> None:
    events = [
        {
            "timestamp": 1433221332117 + 1000 * item,
            "visitorid": 257597 + user,
            "event": ["view", "addtocart", "transaction"][item % 3],
            "itemid": item,
            "transactionid": 4000.0 if item % 3 == 2 else None,
        }
        for user in range(8)
        for item in range(6)
    ]
    if form == "csv":
        write_csv(tmp_path / "events.csv", events)
    else:
        write(tmp_path, "events", events, form)
    run_step(tmp_path, tmp_path / "out", sources=sources(RETAILROCKET).sources)
    catalogue = pq.read_table(tmp_path / "out/catalogue", columns=["item_id", "title"]).to_pylist()
    assert {row["item_id"] for row in catalogue} == {row["title"] for row in catalogue} == set("012345")
    rows = pq.read_table(tmp_path / "out/sequences").to_pylist()
    assert {row["user_id"] for row in rows} == {str(257597 + user) for user in range(8)}
    assert {event["action"] for row in rows for event in row["events"]} == {"view", "save", "purchase"}
    assert {str(row["timestamps"][0])[:19] for row in rows} == {"2015-06-02 05:02:12"}


def test_a_column_that_is_not_there_is_named_as_people_wrote_it(tmp_path: Path) -> None:
    write(tmp_path, "events", [{"user": "u", "item_id": "i", "action": "view", "timestamp": 1}], "csv")
    source = raw_tables.locate(Folder.at(tmp_path), "events", RawSource(columns={"user_id": "personId"}))
    with pytest.raises(
        DataError, match=r"events\.csv: column 'personId', which sources.*user_id, is missing"
    ):
        raw_tables.check(source)
    with pytest.raises(DataError, match="no events table; expected log, with"):
        raw_tables.locate(Folder.at(tmp_path), "events", RawSource(file="log"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"events": {"columns": {"person": "personId"}}}, "events.columns: unknown column 'person'"),
        ({"events": {"actions": {"VIEW": "seen"}}}, "events.actions: unknown action 'seen'"),
        ({"items": {"actions": {"VIEW": "view"}}}, "items.actions: only events have actions"),
        ({"events": {"from_events": True}}, "events.from_events: only users and items"),
        ({"events": {"time_unit": "minutes"}}, "time_unit"),
        ({"events": {"file": "logs/day"}}, r"events.file: 'logs/day' must .*without its ending"),
        ({"items": {"file": "meta.csv.gz"}}, "items.file: 'meta.csv.gz' must"),
        ({"users": {"from_events": True, "file": "people"}}, "users.from_events: such a table has no file"),
        ({"likes": {}}, "likes"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sources(given)

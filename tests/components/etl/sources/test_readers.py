"""Reading raw tables: three formats give one result, and what cannot be read is named."""

import gzip
import json
import shutil

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from components.etl.sources.readers import read as read_source
from components.shared.artifacts import raw_tables
from components.shared.artifacts.storage import Folder
from components.shared.errors import DataError
from data_contracts import tables

EVENTS = [
    {
        "user_id": "u1",
        "item_id": "i1",
        "action": "view",
        "dwell_seconds": 1.5,
        "timestamp": "2025-01-01T00:00:00Z",
    },
    {
        "user_id": "ü",
        "item_id": 'i,"2"',
        "action": "like",
        "dwell_seconds": None,
        "timestamp": "2025-01-01T01:00:00.25+01:00",
    },
]
ITEMS = [{"item_id": "i1", "title": 'A "big", red\nbox', "tags": ["a", "b"]}]


def write(folder, name, rows, form):
    folder.mkdir(exist_ok=True)
    if form == "parquet":
        table = pa.Table.from_pylist(rows)
        if "timestamp" in table.column_names:
            at = table.column_names.index("timestamp")
            text = pa.array([r["timestamp"].replace("Z", "+00:00") for r in rows])
            table = table.set_column(at, "timestamp", pa.compute.cast(text, pa.timestamp("ms", "UTC")))
        pq.write_table(table, folder / f"{name}.parquet")
    elif form.startswith("jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        _text(folder / f"{name}.{form}", text)
    else:

        def cell(value):
            value = "|".join(value) if isinstance(value, list) else value
            return "" if value is None else '"' + str(value).replace('"', '""') + '"'

        lines = [",".join(rows[0]), *(",".join(cell(v) for v in row.values()) for row in rows)]
        _text(folder / f"{name}.{form}", "\n".join(lines) + "\n")


def _text(path, text):
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read(spark, folder, table):
    source = raw_tables.locate(Folder.at(folder), table)
    raw_tables.check(source)
    raw_tables.read_to_the_end(source)
    return read_source(spark, source)


@pytest.mark.parametrize("form", ["parquet", "jsonl", "jsonl.gz", "csv", "csv.gz"])
def test_every_format_reads_the_same(spark, tmp_path, form):
    write(tmp_path, "events", EVENTS, form)
    write(tmp_path, "items", ITEMS, form)
    events = read(spark, tmp_path, "events").collect()
    assert [(e.user_id, e.item_id, e.action, e.dwell_seconds) for e in events] == [
        ("u1", "i1", "view", 1.5),
        ("ü", 'i,"2"', "like", None),
    ]
    micros = read(spark, tmp_path, "events").selectExpr("unix_micros(timestamp)").collect()
    assert [row[0] for row in micros] == [1735689600_000_000, 1735689600_250_000]
    (item,) = read(spark, tmp_path, "items").collect()
    assert (item.title, item.tags, item.brand, item._malformed) == (
        'A "big", red\nbox',
        ["a", "b"],
        None,
        None,
    )


def test_part_files_are_one_table(spark, tmp_path):
    for number in range(3):
        write(tmp_path / "events", f"part-{number}", EVENTS, "jsonl")
    (tmp_path / "events" / "_SUCCESS").touch()
    assert read(spark, tmp_path, "events").count() == 6


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_part_files_may_differ_in_their_columns(spark, tmp_path, form):
    turned = [{name: row[name] for name in reversed(row) if name != "dwell_seconds"} for row in EVENTS]
    write(tmp_path / "events", "part-0", turned, form)
    write(tmp_path / "events", "part-1", EVENTS, form)
    found = read(spark, tmp_path, "events").collect()
    assert {(e.user_id, e.item_id, e.dwell_seconds) for e in found} == {
        ("u1", "i1", None),
        ("ü", 'i,"2"', None),
        ("u1", "i1", 1.5),
    }
    assert len(found) == 4 and all(e._malformed is None for e in found)


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_places_rise_by_part_and_row(spark, tmp_path, form):
    """The first part is the smallest, which Spark reads last; odd names are escaped in its paths."""
    names = ("part 0", "part%1", "part-2")
    for number, name in enumerate(names):
        rows = [{**EVENTS[0], "item_id": f"{number}-{row}"} for row in range(2 + 10 * number)]
        write(tmp_path / "events", name, rows, form)
    found = read(spark, tmp_path, "events").orderBy("place").collect()
    expected = [f"{number}-{row}" for number in (0, 1, 2) for row in range(2 + 10 * number)]
    assert [row.item_id for row in found] == expected
    assert len({row.place for row in found}) == len(found)


def test_blocks_of_a_file_keep_its_order(spark, tmp_path):
    title = "x" * 900
    lines = [json.dumps({"item_id": f"{n:05d}", "title": title}) for n in range(12_000)]  # 11 MB: two blocks
    (tmp_path / "items.jsonl").write_text("\n".join(lines) + "\n")
    frame = read(spark, tmp_path, "items").select("item_id", "place")
    assert frame.rdd.getNumPartitions() > 1
    found = frame.orderBy("place").collect()
    assert [row.item_id for row in found] == [f"{n:05d}" for n in range(12_000)]


def test_csv_rows_with_too_many_or_too_few_fields_are_malformed(spark, tmp_path):
    lines = ["user_id,item_id,action,timestamp", "u1,i1,view,10", "u1,i1", "u1,i1,view,10,20"]
    (tmp_path / "events.csv").write_text("\n".join(lines) + "\n")
    frame = read(spark, tmp_path, "events")
    assert [r._malformed for r in frame.collect()] == [None, "u1,i1", "u1,i1,view,10,20"]
    assert frame.where("_malformed is null").count() == 1


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_values_of_a_wrong_type_are_malformed_or_null(spark, tmp_path, form):
    odd = [{"timestamp": "yesterday"}, *({"dwell_seconds": text} for text in ("long", "-1", "inf"))]
    write(tmp_path, "events", [*EVENTS, *({**EVENTS[0], **change} for change in odd)], form)
    found = read(spark, tmp_path, "events").collect()
    assert [r._malformed for r in found] == [None, None, "timestamp=yesterday", None, None, None]
    assert [r.unread for r in found[3:]] == [[f"dwell_seconds={text}"] for text in ("long", "-1", "inf")]
    assert [r.dwell_seconds for r in found[3:]] == [None, None, None]


def test_broken_json_lines_are_malformed_and_nan_is_null(spark, tmp_path):
    nan = {**EVENTS[0], "user_id": float("nan"), "dwell_seconds": float("nan")}
    text = json.dumps(EVENTS[0]) + '\n{"user_id": "u2", \n[1, 2]\n' + json.dumps(nan)
    (tmp_path / "events.jsonl").write_text(text)
    found = read(spark, tmp_path, "events").collect()
    assert [r._malformed for r in found] == [None, '{"user_id": "u2", ', "[1, 2]", None]
    assert [found[3][name] for name in ("user_id", "dwell_seconds", "unread")] == [None] * 3


def test_unix_seconds_are_times(spark, tmp_path):
    write(tmp_path, "events", [{**EVENTS[0], "timestamp": 1735689600.5}], "jsonl")
    (row,) = read(spark, tmp_path, "events").selectExpr("unix_micros(timestamp)").collect()
    assert row[0] == 1735689600_500_000


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param(pa.timestamp("ns", "UTC"), 1735689600_123_456_999, id="nanoseconds, as pandas writes"),
        pytest.param(pa.timestamp("ns"), 1735689600_123_456_999, id="without a zone"),
        pytest.param(pa.timestamp("us", "Asia/Shanghai"), 1735689600_123_456, id="another zone"),
        pytest.param(pa.timestamp("ms"), 1735689600_123, id="milliseconds"),
        pytest.param(pa.timestamp("s", "UTC"), 1735689600, id="seconds"),
        pytest.param(pa.date32(), 20089, id="days"),
    ],
)
def test_every_unit_of_time_in_parquet_is_read(spark, tmp_path, kind, value):
    """The other columns have the types that other writers choose for them."""
    texts = {"user_id": pa.array(["u"]).dictionary_encode(), "item_id": pa.array(["i"], pa.large_string())}
    numbers = {"dwell_seconds": pa.array([2], pa.int8()), "ordinal": pa.nulls(1)}
    _table(tmp_path, **texts, action=["view"], timestamp=pa.array([value], kind), **numbers)
    frame = read(spark, tmp_path, "events")
    (row,) = frame.selectExpr("*", "unix_micros(timestamp) as micros").collect()
    day = 1735689600_000_000
    assert row.micros == {"us": day + 123_456, "ns": day + 123_456, "ms": day + 123_000}.get(
        getattr(kind, "unit", ""), day
    )
    assert (row.user_id, row.item_id, row.dwell_seconds, row.ordinal) == ("u", "i", 2.0, None)


def test_times_as_spark_and_hive_store_them_are_read(spark, tmp_path):
    events = [{**EVENTS[0], "timestamp": "2025-01-01T00:00:00.25Z"}]
    write(tmp_path / "plain", "events", events, "parquet")
    pq.write_table(
        pq.read_table(tmp_path / "plain/events.parquet"),
        tmp_path / "events.parquet",
        use_deprecated_int96_timestamps=True,
    )
    (row,) = read(spark, tmp_path, "events").selectExpr("unix_micros(timestamp)").collect()
    assert row[0] == 1735689600_250_000


def test_links_and_odd_names_lead_nowhere_twice(spark, tmp_path):
    data = tmp_path / "data[1] {x} 100%"
    data.mkdir()
    for day in ("day=1", "day[2]"):
        (data / "events").mkdir(exist_ok=True)
        write(data / "events" / day, "part", EVENTS, "jsonl")
    (data / "events/loop").symlink_to(data / "events")
    (data / "events/latest").symlink_to(data / "events/day=1")
    assert read(spark, data, "events").count() == 2 * len(EVENTS)
    with pytest.raises(DataError, match=r"part\.jsonl: no such folder") as failure:
        raw_tables.locate(Folder.at(data / "events/day=1/part.jsonl"), "events")
    assert "AWS" not in str(failure.value)


def test_a_link_that_would_lose_files_is_refused(tmp_path):
    write(tmp_path / "elsewhere", "part", EVENTS, "jsonl")
    (tmp_path / "data").mkdir()
    write(tmp_path / "data/events", "part", EVENTS, "jsonl")
    link = tmp_path / "data/events/2024"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"events/2024: links to folders are not followed; bring .*elsewhere"):
        raw_tables.locate(Folder.at(tmp_path / "data"), "events")
    link.unlink()
    link.with_suffix(".jsonl").symlink_to(tmp_path / "gone.jsonl")
    with pytest.raises(DataError, match=r"events/2024\.jsonl: a link to a file that is not there"):
        raw_tables.locate(Folder.at(tmp_path / "data"), "events")


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_folders_named_by_a_column_hold_its_value(spark, tmp_path, form):
    rows = [{"user_id": n, "item_id": 7 * n, "timestamp": 1735689600 + n} for n in range(3)]
    for action in ("view", "like", "__HIVE_DEFAULT_PARTITION__", "a%20b"):
        folder = tmp_path / "events/day=2025-01-01" / f"action={action}"
        folder.mkdir(parents=True)
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet")
        elif form == "jsonl":
            (folder / "part-0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
            (folder / "part-0.csv").write_text("\n".join(lines) + "\n")
    frame = read(spark, tmp_path, "events")
    found = frame.selectExpr("user_id", "item_id", "action", "unix_seconds(timestamp)").collect()
    assert sorted(map(tuple, found), key=str) == sorted(
        (
            (str(n), str(7 * n), action, 1735689600 + n)
            for n in range(3)
            for action in (None, "a b", "like", "view")
        ),
        key=str,
    )


def test_a_quote_that_is_never_closed_loses_no_line(spark, tmp_path):
    """Every line that it swallows is a refused row, so the share of refused rows tells."""
    lines = ["user_id,item_id,action,timestamp", "u1,i1,view,10", 'u1,"i1,view,10', *["u2,i1,view,10"] * 8]
    (tmp_path / "events.csv").write_text("\n".join(lines) + "\n")
    found = [row._malformed for row in read(spark, tmp_path, "events").collect()]
    assert found[0] is None and found[1:] == lines[2:]


def test_the_header_of_a_second_file_is_no_row_and_names_of_columns_may_hold_anything(spark, tmp_path):
    text = ";item_id;a`b;title;c.d\n0;1;x;Tea;y\n"
    (tmp_path / "items.csv").write_text(text + text + "0;2;;title;\n")
    found = read(spark, tmp_path, "items").select("item_id", "title", "_malformed").collect()
    header = text.split("\n")[0]
    assert [tuple(row) for row in found] == [
        ("1", "Tea", None),
        ("item_id", "title", header),
        ("1", "Tea", None),
        ("2", "title", None),
    ]


def test_times_that_are_not_what_they_seem(spark, tmp_path):
    texts = ["20250101", "12:30", "20250101000000", "1735689600", "2025-01-01", "2025"]
    lines = ["user_id,item_id,action,timestamp", *(f"u,i,view,{text}" for text in texts)]
    (tmp_path / "events.csv").write_text("\n".join(lines) + "\n")
    frame = read(spark, tmp_path, "events").selectExpr("unix_micros(timestamp) as t", "_malformed")
    day = 1735689600_000_000
    found = [(row.t, row._malformed) for row in frame.collect()]
    assert found[:5] == [
        (day, None),
        (None, "timestamp=12:30"),
        (None, "timestamp=20250101000000"),
        (day, None),
        (day, None),
    ]


@pytest.mark.parametrize("form", ["csv", "jsonl", "csv.gz"])
def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path, form):
    line, bad = (b"u1,i1,view,10\n", b"caf\xe9,i1,view,10\n")
    if form == "jsonl":
        line, bad = (b'{"user_id": "%s", "item_id": "i"}\n' % user for user in (b"u", b"caf\xe9"))
    data = (b"" if form == "jsonl" else b"user_id,item_id,action,timestamp\n") + line * 200_000 + bad
    (tmp_path / f"events.{form}").write_bytes(gzip.compress(data, 1) if form.endswith("gz") else data)
    source = raw_tables.locate(Folder.at(tmp_path), "events")
    raw_tables.check(source)
    where = 200_001 + (form != "jsonl")
    with pytest.raises(DataError, match=rf"events.{form}: line {where} is not .* is it Windows-1252"):
        raw_tables.read_to_the_end(source)


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ('{"user_id": "a} {b", "item_id": "i"}', True),
        ('{"user_id": "a", "tags": [{"b": "}"}, {}]},', True),
        ('{"user_id": "a"}{"user_id": "b"}', False),
        ('{"user_id": "a", "x": {"y": "}"}} {"user_id": "b"}', False),
        ('{"user_id": "a"} # comment', False),
        ('{"user_id": ', True),
    ],
)
def test_no_object_behind_another_is_lost(tmp_path, line, is_one):
    (tmp_path / "users.jsonl").write_text(f'{{"user_id": "u"}}\n{line}\n')
    source = raw_tables.locate(Folder.at(tmp_path), "users")
    raw_tables.check(source)
    if is_one:
        return raw_tables.read_to_the_end(source)
    with pytest.raises(DataError, match=r"users\.jsonl: line 2 holds more than one JSON object"):
        raw_tables.read_to_the_end(source)


def test_text_that_is_no_utf8_reaches_the_workers_as_text(spark, tmp_path):
    """Collecting would mend it unseen: Python workers get the bytes that the JVM holds."""
    bad = pa.array([b"caf\xe9"]).view(pa.string())
    tags = pa.ListArray.from_arrays([0, 1], bad)
    _table(tmp_path, "items.parquet", item_id=["i"], title=bad, brand=bad, tags=tags)

    def decoded(batches):
        for batch in batches:
            batch.to_pylist()  # raises UnicodeDecodeError
            yield batch

    frame = read(spark, tmp_path, "items").select("title", "brand", "tags")
    (row,) = frame.mapInArrow(decoded, frame.schema).collect()
    assert (row.title, row.brand, row.tags) == ("caf\ufffd", "caf\ufffd", ["caf\ufffd"])


def test_numbers_that_do_not_fit_are_null(spark, tmp_path):
    _table(tmp_path, "users.parquet", user_id=["u", "v"], age=[3_000_000_000, 30])
    assert [(r.age, r.unread) for r in read(spark, tmp_path, "users").collect()] == [
        (None, ["age=3000000000"]),
        (30, None),
    ]
    _table(
        tmp_path,
        user_id=["u"],
        item_id=["i"],
        action=["view"],
        timestamp=pa.array([10**18], pa.timestamp("ns")),
        ordinal=pa.array([7], pa.uint64()),
    )
    assert read(spark, tmp_path, "events").collect()[0].ordinal == 7


def test_unfinished_and_hidden_folders_are_no_data(spark, tmp_path):
    for folder in ("events", "events/_temporary/0", "events/.ipynb_checkpoints"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        write(tmp_path / folder, "part-0", EVENTS, "jsonl")
    assert read(spark, tmp_path, "events").count() == len(EVENTS)


def test_a_byte_order_mark_before_quotes(spark, tmp_path):
    text = '\ufeff"user_id","item_id","action","timestamp"\r\n"u","i","view","10"\r\n'
    (tmp_path / "events.csv").write_bytes(text.encode())
    (row,) = read(spark, tmp_path, "events").collect()
    assert (row.user_id, row.item_id, row._malformed) == ("u", "i", None)


def _table(folder, name="events.parquet", **columns):
    pq.write_table(pa.table(columns), folder / name)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        pytest.param(lambda f: None, "no events table", id="missing table"),
        pytest.param(
            lambda f: (f / "events.parquet").write_bytes(b"PAR1 nonsense"),
            "not a readable Parquet",
            id="corrupt",
        ),
        pytest.param(lambda f: _table(f, user_id=["u"]), "column 'item_id' is missing", id="missing column"),
        pytest.param(
            lambda f: _table(f, user_id=["u"], USER_ID=["u"]),
            "appears twice",
            id="names alike but for case",
        ),
        pytest.param(
            lambda f: _table(f, user_id=[1.5], item_id=["i"], action=["view"], timestamp=[0]),
            "column 'user_id' has type double, expected string",
            id="wrong type",
        ),
        pytest.param(
            lambda f: _table(
                f, user_id=pa.array([7], pa.decimal256(50, 0)), item_id=["i"], action=["view"], timestamp=[0]
            ),
            "column 'user_id' has type decimal256.* expected string",
            id="more digits than Spark reads",
        ),
        pytest.param(
            lambda f: _table(f, user_id=["u"], item_id=["i"], action=["view"], timestamp=[0.5]),
            "column 'timestamp' has type double, expected timestamp",
            id="fraction for a time",
        ),
        pytest.param(
            lambda f: pq.write_table(tables.EVENTS.empty_table(), f / "events.parquet"),
            "no rows",
            id="empty",
        ),
        pytest.param(
            lambda f: (f / "events.csv").write_text("user_id,item_id,action,timestamp\n"),
            "no rows",
            id="only a header",
        ),
        pytest.param(
            lambda f: (f / "events.csv.gz").write_bytes(b"text"), "unreadable or cut off", id="not gzip"
        ),
        pytest.param(
            lambda f: (f / "events.csv").write_text("user_id,item_id\nu,i\n"),
            "column 'action' is missing",
            id="csv column",
        ),
        pytest.param(lambda f: (f / "events.jsonl").write_text("[1]\n"), "not a JSON object", id="json list"),
        pytest.param(
            lambda f: pq.write_table(
                pa.table({"user_id": ["u"]}), f / "events.parquet", compression="brotli"
            ),
            "compressed by BROTLI, which Spark does not read",
            id="codec",
        ),
        *(
            pytest.param(
                lambda f, code=code: (f / "events.csv").write_bytes("user_id,item_id\nu,i\n".encode(code)),
                "line 1 is not .* is it UTF-16.* -f UTF-16",
                id=code,
            )
            for code in ("utf-16", "utf-16-le")
        ),
        pytest.param(
            lambda f: (f / "events.jsonl").write_bytes('{"user_id": "é"}\n'.encode("cp1252")),
            "line 1 is not .* is it Windows-1252",
            id="cp1252 in the first line",
        ),
        pytest.param(
            lambda f: (f / "events.csv").write_bytes("user_id,城市\nu,i\n".encode("gbk")),
            "line 1 is not .*城市.* is it GB18030",
            id="gbk",
        ),
        pytest.param(
            lambda f: (f / "events.csv").write_bytes(gzip.compress(b"user_id\n")),
            "a gzip file; add .gz to its name",
            id="gzip without its ending",
        ),
        pytest.param(
            lambda f: (f / "events.CSV.GZ").write_bytes(gzip.compress(b"user_id\n")),
            "events.CSV.GZ: rename it; Spark unpacks only names that end in .gz",
            id="gzip with an ending in capitals",
        ),
        pytest.param(
            lambda f: (f / "events.csv").write_text("USER_ID,item_id,action,timestamp\nu,i,view,1\n"),
            "column 'USER_ID' is written 'user_id' in the table events",
            id="case of a required column",
        ),
        pytest.param(
            lambda f: (f / "events.jsonl").write_text(
                '{"user_id": "u", "item_id": "i", "Dwell_Seconds": 3}\n'
            ),
            "column 'Dwell_Seconds' is written 'dwell_seconds'",
            id="case of an optional column",
        ),
        pytest.param(
            lambda f: [(f / n).touch() for n in ("events.csv", "events.jsonl")], "several events", id="two"
        ),
        pytest.param(lambda f: (f / "events").mkdir(), "part files of one format", id="empty folder"),
    ],
)
def test_what_cannot_be_read_is_named(spark, tmp_path, prepare, message):
    prepare(tmp_path)
    with pytest.raises(DataError, match=message) as failure:
        read(spark, tmp_path, "events")
    assert str(tmp_path) in str(failure.value)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        raw_tables.locate(Folder.at(tmp_path / "nowhere"), "events")


@pytest.mark.parametrize("form", ["parquet", "jsonl.gz"])
def test_a_part_file_cut_off_in_the_middle_is_named(sample_folder, run_step, tmp_path, form):
    shutil.copytree(sample_folder, tmp_path / "data")
    source = tmp_path / "data/events.parquet"
    if form == "parquet":
        data = bytearray(source.read_bytes())
        data[100 : len(data) // 2] = bytes(len(data) // 2 - 100)  # the footer is whole, the pages are not
        source.write_bytes(data)
    else:
        rows = pq.read_table(source).to_pylist()
        source.unlink()
        lines = "".join(json.dumps({**r, "timestamp": r["timestamp"].isoformat()}) + "\n" for r in rows)
        (tmp_path / "data/events.jsonl.gz").write_bytes(gzip.compress(lines.encode())[:-2000])
    with pytest.raises(DataError, match=rf"events\.{form}: unreadable or cut off"):
        run_step(tmp_path / "data", tmp_path / "out")
    assert not (tmp_path / "out/sequences").exists()


@pytest.mark.parametrize("name", ["exposures.tsv", "exposures.csv.zst", "Exposures.parquet"])
def test_an_optional_table_of_an_odd_name_is_not_passed_over(tmp_path, name):
    assert raw_tables.find(Folder.at(tmp_path), "exposures") is None
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=f"{name}: if this is the table exposures"):
        raw_tables.find(Folder.at(tmp_path), "exposures")

"""The importer on small hand-made files, and on the real ones against the published sequences."""

import gzip
import json
import re

import pyarrow.parquet as pq
import pytest

from components.shared.errors import ContractError, DataError
from pipelines.datasets.importers.amazon import import_amazon
from pipelines.datasets.importers.output import ImportReport

META = [
    {"asin": "B1", "title": "Soap &amp; Co", "brand": "Sud", "categories": [["Bath"], ["Bath", "Soap"]]},
    {"asin": "B2", "categories": []},
    {"asin": "B9", "title": "never reviewed"},
]
REVIEWS = [
    {"reviewerID": "A2", "asin": "B2", "unixReviewTime": 86400},
    {"reviewerID": "A1", "asin": "B1", "unixReviewTime": 86400},
    {"reviewerID": "A1", "asin": "B2", "unixReviewTime": 86400},
]


def write(folder, reviews=REVIEWS, meta=META):
    with gzip.open(folder / "reviews.json.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in reviews)
    with gzip.open(folder / "meta.json.gz", "wt") as file:
        file.writelines(f"{row!r}\n" for row in meta)
    return folder / "reviews.json.gz", folder / "meta.json.gz"


def test_import(tmp_path):
    report = import_amazon(*write(tmp_path), tmp_path / "out")
    assert report == ImportReport(users=2, items=2, events=3, without_title=1)
    events = pq.read_table(tmp_path / "out/events.parquet").to_pylist()
    assert [(e["user_id"], e["item_id"], e["ordinal"]) for e in events] == [
        ("A2", "B2", 0),
        ("A1", "B1", 1),
        ("A1", "B2", 2),
    ]
    assert events[0]["timestamp"].isoformat() == "1970-01-02T00:00:00+00:00"
    items = pq.read_table(tmp_path / "out/items.parquet").to_pylist()
    assert {i["item_id"]: i["categories"] for i in items} == {"B2": [], "B1": ["Bath", "Soap"]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [("Mild.", "Mild."), (["Mild.", "For hands."], "Mild. For hands."), ([], None), (None, None)],
)
def test_a_description_is_a_text_or_a_list_of_texts(tmp_path, caplog, given, expected):
    paths = write(tmp_path, meta=[{"asin": "B1", "description": given}, {"asin": "B2"}])
    import_amazon(*paths, tmp_path / "out")
    items = pq.read_table(tmp_path / "out/items.parquet").to_pylist()
    assert {i["item_id"]: i["description"] for i in items} == {"B1": expected, "B2": None}
    assert not caplog.records


@pytest.mark.parametrize("field", ["category", "categories"])
def test_a_category_in_text_is_the_only_one(tmp_path, caplog, field):
    paths = write(tmp_path, meta=[{"asin": "B1", field: "Garden, Tools"}, {"asin": "B2", field: ""}])
    import_amazon(*paths, tmp_path / "out")
    items = pq.read_table(tmp_path / "out/items.parquet").to_pylist()
    assert {i["item_id"]: i["categories"] for i in items} == {"B1": ["Garden, Tools"], "B2": []}
    assert not caplog.records


def test_a_byte_order_mark_costs_no_review(tmp_path, caplog):
    reviews, meta = write(tmp_path)
    for path in (reviews, meta):
        path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + gzip.decompress(path.read_bytes())))
    assert import_amazon(reviews, meta, tmp_path / "out").events == 3 and not caplog.records


def write_lines(path, rows):
    path.write_bytes(gzip.compress(b"".join(row if isinstance(row, bytes) else row.encode() for row in rows)))
    return path


REVIEW = json.dumps(REVIEWS[0]) + "\n"


@pytest.mark.parametrize(
    ("line", "fault", "kept"),
    [
        pytest.param(
            '{"reviewerID": "A3", "asin": "B1"}', "unixReviewTime", ("A3", "B1", None), id="no time"
        ),
        pytest.param(
            '{"reviewerID": "A3", "asin": "B1", "unixReviewTime": "soon"}',
            "unixReviewTime",
            ("A3", "B1", None),
            id="time in words",
        ),
        pytest.param(
            '{"reviewerID": "A3", "asin": "B1", "unixReviewTime": 1e30}',
            "unixReviewTime",
            ("A3", "B1", None),
            id="time out of range",
        ),
        pytest.param(
            '{"reviewerID": "A3", "asin": "B1", "unixReviewTime": NaN}',
            "unixReviewTime",
            ("A3", "B1", None),
            id="NaN",
        ),
        pytest.param(
            '{"reviewerID": null, "asin": "B1", "unixReviewTime": 86400}',
            "reviewerID",
            (None, "B1", 86400),
            id="no user",
        ),
        pytest.param(
            '{"reviewerID": "", "asin": "B1", "unixReviewTime": 86400}',
            "reviewerID",
            (None, "B1", 86400),
            id="empty user",
        ),
        pytest.param(
            '{"reviewerID": "\\ud800", "asin": "B1", "unixReviewTime": 86400}',
            "reviewerID",
            (None, "B1", 86400),
            id="half a character",
        ),
        pytest.param(
            '{"reviewerID": "A3", "asin": ["B1"], "unixReviewTime": 86400}',
            "asin",
            ("A3", None, 86400),
            id="a list as id",
        ),
        pytest.param("[1, 2]", "object", (None, None, None), id="no object"),
        pytest.param('{"reviewerID": "A3", "asi', "object", (None, None, None), id="cut off"),
        pytest.param(b'{"reviewerID": "caf\xe9"}', "object", (None, None, None), id="not UTF-8"),
        pytest.param("[" * 100_000, "object", (None, None, None), id="nested without end"),
        pytest.param("{}", "object", (None, None, None), id="empty object"),
    ],
)
def test_a_bad_review_is_counted_and_left_to_the_quarantine(tmp_path, caplog, line, fault, kept):
    _, meta = write(tmp_path)
    reviews = write_lines(tmp_path / "bad.json.gz", [REVIEW, line, "\n\n", REVIEW])
    report = import_amazon(reviews, meta, tmp_path / "out")
    (message,) = caplog.messages
    assert re.match(f"review .*{fault}.*: 1 times, such as {re.escape(str(reviews))}, line 2: ", message)
    assert report.events == 3
    rows = pq.read_table(tmp_path / "out/events.parquet").to_pylist()
    time = rows[1]["timestamp"] and int(rows[1]["timestamp"].timestamp())
    assert (rows[1]["user_id"], rows[1]["item_id"], time) == kept
    assert [row["ordinal"] for row in rows] == [0, 1, 2]
    assert rows[0]["user_id"] == rows[2]["user_id"] == "A2"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        pytest.param("{'asin': 'B1', 'title': ['Soap']}", {"title": None}, id="title is a list"),
        pytest.param("{'asin': 'B1', 'brand': {'name': 7}}", {"brand": None}, id="brand is a mapping"),
        pytest.param("{'asin': 'B1', 'categories': ['Bath', 7]}", {"categories": []}, id="mixed categories"),
        pytest.param("{'asin': 'B1', 'categories': 7}", {"categories": []}, id="categories is a number"),
        pytest.param("{'asin': 'B1', 'category': '[7, 8]'}", {"categories": []}, id="list in a text"),
        pytest.param("{'asin': 'B1'}\n__import__('os')", {"title": None}, id="no literal"),
        pytest.param("{'asin': 'B1', 'tit", {"title": None, "categories": []}, id="cut off"),
        pytest.param("{{}: 1}", {"title": None}, id="no key"),
    ],
)
def test_bad_metadata_is_counted_and_costs_its_fields_alone(tmp_path, caplog, line, found):
    reviews, _ = write(tmp_path)
    meta = write_lines(tmp_path / "bad.json.gz", ["{'asin': 'B2', 'title': 'Tea'}\n", line, "\n"])
    report = import_amazon(reviews, meta, tmp_path / "out")
    (message,) = caplog.messages
    assert re.match(f"metadata .*: 1 times, such as {re.escape(str(meta))}, line [23]: ", message)
    assert (report.items, report.events) == (2, 3)
    items = {row["item_id"]: row for row in pq.read_table(tmp_path / "out/items.parquet").to_pylist()}
    assert items["B2"]["title"] == "Tea"
    assert {name: items["B1"][name] for name in found} == found


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        pytest.param(["{'asin': 'B1', 'title': 1984}"], {"title": "1984"}, id="title is a number"),
        pytest.param(
            ["{'asin': 'B1', 'categories': ['Bath', 'Soap']}"],
            {"categories": ["Bath", "Soap"]},
            id="one flat path",
        ),
        pytest.param(
            ['{"asin": "B1", "title": null, "brand": "Sud"}'], {"title": None, "brand": "Sud"}, id="JSON"
        ),
        pytest.param(
            ["{'asin': 'B1', 'brand': 'Sud'}", "{'asin': 'B1', 'title': 'Soap', 'brand': 'other'}"],
            {"title": "Soap", "brand": "Sud"},
            id="two lines on one item",
        ),
    ],
)
def test_other_forms_of_metadata_are_read(tmp_path, caplog, lines, found):
    meta = write_lines(tmp_path / "other.json.gz", [f"{line}\n" for line in lines])
    import_amazon(write(tmp_path)[0], meta, tmp_path / "out")
    items = {row["item_id"]: row for row in pq.read_table(tmp_path / "out/items.parquet").to_pylist()}
    assert {name: items["B1"][name] for name in found} == found
    assert not caplog.messages


@pytest.mark.parametrize(
    ("review", "meta"),
    [
        pytest.param(
            {"reviewerID": "A1", "asin": "B1", "unixReviewTime": 1514764800, "verified": True},
            {"asin": "B1", "title": "Soap", "brand": "Sud", "category": ["Bath", "Soap"]},
            id="2018",
        ),
        pytest.param(
            {"user_id": "A1", "asin": "B7", "parent_asin": "B1", "timestamp": 1514764800000},
            {"parent_asin": "B1", "title": "Soap", "store": "Sud", "categories": ["Bath", "Soap"]},
            id="2023",
        ),
        pytest.param(
            {"user_id": "A1", "parent_asin": "B1", "timestamp": "1514764800"},
            {"parent_asin": "B1", "title": "Soap", "store": "Sud", "categories": ["Bath", "Soap"]},
            id="2023, in seconds",
        ),
    ],
)
def test_the_formats_of_later_years(tmp_path, caplog, review, meta):
    reviews = write_lines(tmp_path / "Baby.jsonl.gz", ["\n", "no json\n", json.dumps(review) + "\n"])
    described = write_lines(tmp_path / "meta_Baby.jsonl.gz", [json.dumps(meta) + "\n"])
    report = import_amazon(reviews, described, tmp_path / "out")
    assert report == ImportReport(users=1, items=1, events=2)
    event = pq.read_table(tmp_path / "out/events.parquet").to_pylist()[1]
    assert (event["user_id"], event["item_id"]) == ("A1", "B1")
    assert event["timestamp"].isoformat() == "2018-01-01T00:00:00+00:00"
    (item,) = pq.read_table(tmp_path / "out/items.parquet").to_pylist()
    assert (item["title"], item["brand"], item["categories"]) == ("Soap", "Sud", ["Bath", "Soap"])
    (message,) = caplog.messages
    assert "review line that is no object" in message and "line 2" in message


def test_faults_of_both_files_are_counted_apart(tmp_path, caplog):
    reviews = write_lines(tmp_path / "r.json.gz", [REVIEW, "[1]\n", "[2]\n"])
    meta = write_lines(tmp_path / "m.json.gz", ["\n", "nothing\n"])
    import_amazon(reviews, meta, tmp_path / "out")
    assert caplog.messages == [
        f"review line that is no object of the official format: 2 times, such as {reviews}, line 2: '[1]'",
        f"metadata line that is no object of the official format: 1 times, such as {meta}, line 2: 'nothing'",
    ]


def test_a_file_without_any_usable_review_is_an_error(tmp_path):
    reviews, meta = write(tmp_path)
    with pytest.raises(DataError, match=r"nowhere\.json: no such file"):
        import_amazon(tmp_path / "nowhere.json", meta, tmp_path / "out")
    with pytest.raises(DataError, match=r"meta\.json\.gz: no usable row .*line 1: .*expected reviewerID"):
        import_amazon(meta, meta, tmp_path / "out")
    with pytest.raises(DataError, match="it is empty"):
        import_amazon(write_lines(tmp_path / "none.json.gz", []), meta, tmp_path / "out")
    body = bytearray(gzip.compress(json.dumps(REVIEWS[0]).encode() * 50))
    body[12:40] = b"\xff" * 28
    reviews.write_bytes(bytes(body))
    with pytest.raises(DataError, match=r"reviews\.json\.gz: unreadable"):
        import_amazon(reviews, meta, tmp_path / "out")
    reviews.write_bytes(gzip.compress(b'{"reviewerID": "A"')[:-9])
    with pytest.raises(DataError, match=r"reviews\.json\.gz: unreadable"):
        import_amazon(reviews, meta, tmp_path / "out")
    reviews.write_bytes(b"not gzip")
    with pytest.raises(DataError, match="unreadable"):
        import_amazon(reviews, meta, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_run_quarantines_what_the_importer_could_not_use(tmp_path, run_step):
    reviews = [
        {"reviewerID": f"A{user}", "asin": f"B{item}", "unixReviewTime": 86400 * item}
        for user in range(6)
        for item in range(8)
    ]
    del reviews[5]["unixReviewTime"]
    lines = [*(json.dumps(row) + "\n" for row in reviews), '{"reviewerID": "A1", "as\n']
    import_amazon(write_lines(tmp_path / "bad.json.gz", lines), write(tmp_path)[1], tmp_path / "data")
    report = run_step(tmp_path / "data", tmp_path / "out")
    assert report.events_read == 49 and report.reasons == {"null_timestamp": 1, "null_user_id": 1}
    with pytest.raises(ContractError, match="2 of 49 rows are faulty"):
        run_step(tmp_path / "data", tmp_path / "strict", max_quarantine_share=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("category", ["Beauty", "Sports_and_Outdoors"])
def test_sequences_equal_the_published_ones(shared_data, category, run_step, tmp_path):
    folder = shared_data / "amazon2014"
    import_amazon(
        folder / f"reviews_{category}_5.json.gz", folder / f"meta_{category}.json.gz", tmp_path / "data"
    )
    run_step(tmp_path / "data", tmp_path / "out")
    rows = pq.read_table(tmp_path / "out/sequences", columns=["user_id", "item_ids"]).to_pylist()
    with gzip.open(folder / f"{category}.sequences.txt.gz", "rt") as lines:
        published = {user: items for user, *items in map(str.split, lines)}
    assert {row["user_id"]: row["item_ids"] for row in rows} == published
    titles = pq.read_table(tmp_path / "out/catalogue", columns=["title"]).column(0).to_pylist()
    assert all(title.strip() for title in titles)  # Sports has none: brand and category stand in

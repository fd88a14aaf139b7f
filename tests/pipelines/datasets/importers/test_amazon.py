"""The importer on small hand-made files, and on the real ones against the published sequences."""

import gzip
import json

import pyarrow.parquet as pq
import pytest

from components.shared.errors import DataError
from pipelines.datasets.importers.amazon import import_amazon
from pipelines.datasets.importers.report import ImportReport

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


def test_errors_name_file_and_line(tmp_path):
    reviews, meta = write(tmp_path)
    with pytest.raises(DataError, match=r"nowhere\.json: no such file"):
        import_amazon(tmp_path / "nowhere.json", meta, tmp_path / "out")
    for change in ({"asin": None}, {"unixReviewTime": "soon"}, {"unixReviewTime": 10**20}):
        with pytest.raises(DataError, match=f"review 4 has .*{next(iter(change))} "):
            import_amazon(write(tmp_path, [*REVIEWS, {**REVIEWS[0], **change}])[0], meta, tmp_path / "out")
    with pytest.raises(DataError, match=r"line 4 is not in the official format \(ValueError\)"):
        import_amazon(write(tmp_path, [*REVIEWS, [1, 2]])[0], meta, tmp_path / "out")
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
    write(tmp_path)
    meta.write_bytes(gzip.compress(b"{'asin': 'B1'}\n__import__('os')\n"))
    with pytest.raises(DataError, match="line 2 is not in the official format"):
        import_amazon(reviews, meta, tmp_path / "out")
    assert not (tmp_path / "out").exists()


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

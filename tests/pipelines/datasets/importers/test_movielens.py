"""MovieLens-1M in its official form, by hand and the real files."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.shared.errors import DataError
from pipelines.datasets.importers.movielens import import_movielens


@pytest.fixture
def files(tmp_path):
    (tmp_path / "users.dat").write_text("1::F::18::4::48067\n2::M::56::16::70072\n")
    (tmp_path / "movies.dat").write_bytes(
        "7::Amélie (2001)::Comedy|Romance\n8::Heat::Crime\n".encode("latin-1")
    )
    (tmp_path / "ratings.dat").write_text("1::7::5::86400\n2::8::3::86401\n")
    return tmp_path


def rows(folder, name):
    return pq.read_table(folder / "out" / f"{name}.parquet").to_pylist()


def paths(folder, ratings="ratings.dat"):
    return folder / "users.dat", folder / "movies.dat", folder / ratings, folder / "out"


def test_import(files):
    report = import_movielens(*paths(files))
    assert (report.users, report.items, report.events) == (2, 2, 2)
    assert rows(files, "users")[0] | {"city_tier": 0} == {
        "user_id": "1", "age": 18, "gender": "female", "city_tier": 0, "interests": None
    }  # fmt: skip
    assert [(i["title"], i["tags"]) for i in rows(files, "items")] == [
        ("Amélie (2001)", ["Comedy", "Romance"]),
        ("Heat", ["Crime"]),
    ]
    event = rows(files, "events")[0]
    assert (event["user_id"], event["item_id"], event["action"]) == ("1", "7", "click")
    assert event["timestamp"].isoformat() == "1970-01-02T00:00:00+00:00"


def test_interactions_from_parquet_keep_missing_times_as_null(files):
    pq.write_table(
        pa.table({"user_id": [1, 2], "movie_id": [7, 8], "timestamp": [86400, None]}),
        files / "ratings.parquet",
    )
    import_movielens(*paths(files, "ratings.parquet"))
    assert [event["timestamp"] is None for event in rows(files, "events")] == [False, True]


def test_errors_name_file_and_line(files):
    with pytest.raises(DataError, match=r"nowhere\.dat: cannot be read"):
        import_movielens(*paths(files, "nowhere.dat"))
    (files / "ratings.dat").write_text("1::7::5::86400\n1::7\n")
    with pytest.raises(DataError, match="line 2 has 2 fields, expected 4"):
        import_movielens(*paths(files))
    pq.write_table(pa.table({"user_id": [1]}), files / "ratings.parquet")
    with pytest.raises(DataError, match="column 'item_id' is missing"):
        import_movielens(*paths(files, "ratings.parquet"))
    assert not (files / "out").exists()


def test_the_real_files(shared_data, tmp_path):
    folder = shared_data / "movielens"
    names = ("ml-1m.users.dat", "ml-1m.movies.dat", "ml-1m.interactions.parquet")
    report = import_movielens(*(folder / name for name in names), tmp_path / "out")
    assert (report.users, report.items, report.events) == (6040, 3883, 1_000_209)
    times = pq.read_table(tmp_path / "out/events.parquet", columns=["timestamp"]).column(0)
    assert times.null_count == 598

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


def test_a_title_may_hold_the_separator(files, caplog):
    (files / "movies.dat").write_text("7::Orbit :: Part Two :: Dawn (1987)::Drama|War\n8::Heat::Crime\n")
    import_movielens(*paths(files))
    assert not caplog.messages
    assert [(i["title"], i["tags"]) for i in rows(files, "items")] == [
        ("Orbit :: Part Two :: Dawn (1987)", ["Drama", "War"]),
        ("Heat", ["Crime"]),
    ]


def test_interactions_from_parquet_keep_missing_times_as_null(files):
    pq.write_table(
        pa.table({"user_id": [1, 2], "movie_id": [7, 8], "timestamp": [86400, None]}),
        files / "ratings.parquet",
    )
    import_movielens(*paths(files, "ratings.parquet"))
    assert [event["timestamp"] is None for event in rows(files, "events")] == [False, True]


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        pytest.param("1::7", ("1", "7", True), id="truncated"),
        pytest.param("1::7::5::soon", ("1", "7", True), id="time in words"),
        pytest.param("1::7::5::1e99", ("1", "7", True), id="time out of range"),
        pytest.param("::7::5::86400", (None, "7", False), id="no user"),
        pytest.param("1::::5::86400", ("1", None, False), id="no item"),
        pytest.param("1::7::5::86400::9", (None, None, True), id="too many fields"),
        pytest.param("no separator", ("no separator", None, True), id="another format"),
    ],
)
def test_a_bad_rating_is_counted_and_left_to_the_quarantine(files, caplog, line, kept):
    (files / "ratings.dat").write_text(f"1::7::5::86400\r\n\n\n{line}\n\n2::8::3::86401\n")
    report = import_movielens(*paths(files))
    (message,) = caplog.messages
    assert f": 1 times, such as {files / 'ratings.dat'}, line 4: " in message and report.events == 3
    bad = rows(files, "events")[1]
    assert (bad["user_id"], bad["item_id"], bad["timestamp"] is None) == kept
    assert [row["ordinal"] for row in rows(files, "events")] == [0, 1, 2]


def test_other_copies_of_the_files_are_read(files, caplog):
    """With a byte order mark and a header, in UTF-8, age bands in words, times in milliseconds."""
    (files / "users.dat").write_bytes(
        b"\xef\xbb\xbfUserID::Gender::Age::Occupation::Zip-code\r\n1::F::Under 18::4::48067\r\n"
        b"2::M::25-34::16::70072\r\n3::M::56+::16::70072\r\n"
    )
    (files / "movies.dat").write_text("movieId::title::genres\n7::Amélie::Comedy\n", encoding="utf-8")
    (files / "ratings.dat").write_text("\ufeff1::7::5::978300760000\n2::7::4::978300761\n", encoding="utf-8")
    import_movielens(*paths(files))
    assert not caplog.messages
    assert [row["age"] for row in rows(files, "users")] == [1, 25, 56]
    assert [row["title"] for row in rows(files, "items")] == ["Amélie"]
    times = [row["timestamp"].isoformat() for row in rows(files, "events")]
    assert times == ["2000-12-31T22:12:40+00:00", "2000-12-31T22:12:41+00:00"]


def test_bad_users_and_movies_are_counted_and_left_out(files, caplog):
    with (files / "users.dat").open("a") as users, (files / "movies.dat").open("a") as movies:
        users.write("3::F\n\n4::X::old::4::48067\n")
        movies.write("9::Alien\n::Nameless::Drama\n")
    import_movielens(*paths(files))
    assert caplog.messages == [
        f"line without UserID::Gender::Age::Occupation::Zip-code: 1 times, such as {files}/users.dat, "
        "line 3: '3::F'",
        f"line without MovieID::Title::Genres: 2 times, such as {files}/movies.dat, line 3: '9::Alien'",
        f"user without a usable gender: 1 times, such as {files}/users.dat, line 5: '4::X::old::4::48067'",
        f"user without a usable age: 1 times, such as {files}/users.dat, line 5: '4::X::old::4::48067'",
    ]
    assert [(row["user_id"], row["age"], row["gender"]) for row in rows(files, "users")] == [
        ("1", 18, "female"),
        ("2", 56, "male"),
        ("4", None, None),
    ]
    assert [row["item_id"] for row in rows(files, "items")] == ["7", "8"]


@pytest.mark.parametrize(
    ("columns", "events"),
    [
        pytest.param({"timestamp": ["86400", "soon"]}, ["1970-01-02", None], id="times as text"),
        pytest.param({"timestamp": [86400.5, float("nan")]}, ["1970-01-02", None], id="NaN"),
        pytest.param({"user_id": [1, None], "timestamp": [86400, 86400]}, ["1970-01-02"] * 2, id="no user"),
    ],
)
def test_bad_rows_of_a_parquet_table_are_counted(files, caplog, columns, events):
    pq.write_table(pa.table({"user_id": [1, 2], "item_id": [7, 8], **columns}), files / "ratings.parquet")
    import_movielens(*paths(files, "ratings.parquet"))
    (message,) = caplog.messages
    assert f": 1 times, such as {files / 'ratings.parquet'}, row 2: " in message
    times = [row["timestamp"] for row in rows(files, "events")]
    assert [time and time.strftime("%Y-%m-%d") for time in times] == events


def test_files_that_cannot_be_read_are_named(files):
    with pytest.raises(DataError, match=r"nowhere\.dat: no such file"):
        import_movielens(*paths(files, "nowhere.dat"))
    (files / "ratings.dat").write_text("a\nb\n")
    with pytest.raises(DataError, match=r"ratings\.dat: no usable row .*line 1: .*expected UserID::MovieID"):
        import_movielens(*paths(files))
    pq.write_table(pa.table({"user_id": [1]}), files / "ratings.parquet")
    with pytest.raises(DataError, match="column 'item_id' is missing"):
        import_movielens(*paths(files, "ratings.parquet"))
    pq.write_table(
        pa.table({"user_id": [[1]], "item_id": [7], "timestamp": [86400]}), files / "ratings.parquet"
    )
    with pytest.raises(DataError, match="a column has a wrong type"):
        import_movielens(*paths(files, "ratings.parquet"))
    (files / "ratings.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        import_movielens(*paths(files, "ratings.parquet"))
    (files / "ratings.dat").write_text("1::7::5::86400\n")
    (files / "users.dat").write_text("\n")
    with pytest.raises(DataError, match=r"users\.dat: no usable row \(it is empty\)"):
        import_movielens(*paths(files))
    assert not (files / "out").exists()


def test_the_real_files(shared_data, tmp_path):
    folder = shared_data / "movielens"
    names = ("ml-1m.users.dat", "ml-1m.movies.dat", "ml-1m.interactions.parquet")
    report = import_movielens(*(folder / name for name in names), tmp_path / "out")
    assert (report.users, report.items, report.events) == (6040, 3883, 1_000_209)
    times = pq.read_table(tmp_path / "out/events.parquet", columns=["timestamp"]).column(0)
    assert times.null_count == 598

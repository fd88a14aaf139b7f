import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from components.retrieve import tables
from components.retrieve.interactions import NO_SEGMENT
from components.retrieve.segments import Segments
from components.retrieve.tables import load, read_items, read_profiles
from components.shared.errors import DataError

PROFILES = [
    {"user_id": "a", "age": 31, "gender": "f"},
    {"user_id": "b", "age": 39, "gender": "f"},
    {"user_id": "c", "age": 40, "gender": "f"},
    {"user_id": "d"},
]


def test_segments_are_combinations_and_ages_come_in_bands(write_tables) -> None:
    inputs = write_tables({u: ["x", "y", "z"] for u in "abcde"}, profiles=PROFILES)
    profiles = read_profiles(inputs["users"], list("abcde"), ("age", "gender"))
    segments = Segments.of(profiles, ("age", "gender"))
    of = segments.numbers(profiles)
    assert of[0] == of[1] != of[2]
    assert of[3] == of[4] == NO_SEGMENT  # an empty profile, and none at all
    assert (Segments.of(profiles, ()).numbers(profiles) == NO_SEGMENT).all()
    asked = pd.DataFrame({"age": ["35", "old", None, "90"], "gender": ["f", None, "f", "f"]})
    assert segments.numbers(asked).tolist() == [of[0], NO_SEGMENT, NO_SEGMENT, NO_SEGMENT]


def test_an_age_has_one_band_whatever_the_other_users_ages() -> None:
    for ages in ([31, 25], [31, 25, None]):
        segments = Segments.of(pd.DataFrame({"age": ages}), ("age",))
        for asked in ([39, 20], ["39", "20"], [39, 20, None]):
            assert segments.numbers(pd.DataFrame({"age": asked})).tolist()[:2] == [1, 0]


def test_a_brand_is_a_tag_among_others(write_tables) -> None:
    tags, brands = {"a": ["soap", "acme"], "b": ["soap"]}, {"a": "acme", "b": "zest", "c": "acme", "d": ""}
    inputs = write_tables({"u": ["a", "b", "c", "d"]}, tags=tags, brands=brands)
    of_items = load(inputs["sequences"], inputs["catalogue"]).tags
    assert [row.tolist() for row in of_items] == [[0, 1], [1, 2], [0], []]  # acme, soap, zest


def test_examples_of_leave_one_out(write_tables) -> None:
    inputs = write_tables({"b": ["x", "y", "z", "w"], "a": ["z", "x", "y"]})
    data = load(inputs["sequences"], inputs["catalogue"])
    assert data.user_ids == ["a", "b"]
    assert data.item_ids == ["w", "x", "y", "z"]
    assert [row.tolist() for row in data.train()] == [[3], [1, 2]]
    train, valid, test = data.train_queries(1), data.queries("valid"), data.queries("test")
    assert train.users.tolist() == [1]  # a's one train item has nothing before it
    assert [row.tolist() for row in train.histories] == [[1]]
    assert [row.tolist() for row in train.labels] == [[2]]
    assert [row.tolist() for row in valid.histories] == [[3], [1, 2]]
    assert [row.tolist() for row in valid.labels] == [[1], [3]]
    assert [row.tolist() for row in test.histories] == [[3, 1], [1, 2, 3]]
    assert [row.tolist() for row in test.labels] == [[2], [0]]
    assert test.position.tolist() == [2, 3]


def test_examples_of_a_temporal_split(write_tables) -> None:
    sequences = {"new": ["x", "y"], "quiet": ["x", "y"], "busy": ["x", "y", "z", "w"]}
    ends = {"new": (0, 0), "quiet": (2, 2), "busy": (1, 2)}
    inputs = write_tables(sequences, ends=ends)
    data = load(inputs["sequences"], inputs["catalogue"])
    users = {split: [data.user_ids[u] for u in data.queries(split).users] for split in ("valid", "test")}
    assert users == {"valid": ["busy"], "test": ["busy", "new"]}
    assert data.queries("test").labels.lengths.tolist() == [2, 2]
    assert data.queries("test").histories.lengths.tolist() == [2, 0]


def facts(data) -> dict:
    """Return all fields of Interactions as lists."""
    lists = {
        name: getattr(value, "tolist", lambda value=value: value)() for name, value in vars(data).items()
    }
    return lists | {"tags": [row.tolist() for row in data.tags]}


def test_the_order_and_the_pieces_of_the_tables_do_not_matter(write_tables, monkeypatch) -> None:
    """Users and items come in many files and batches: no column is in one array."""
    sequences = {f"u{i}": [f"i{(i + j) % 9}" for j in range(3 + i % 3)] for i in range(7)}
    tags = {f"i{i}": [f"tag {i % 2}", f"tag {i}"][: i % 3] for i in range(9)}
    about = {"tags": tags, "brands": {"i4": "acme"}, "created": {"i2": 1}}
    inputs = write_tables(sequences, **about)
    pieces = write_tables({}, name="pieces", catalogue=[f"i{i}" for i in reversed(range(9))], **about)
    (pieces["sequences"] / "part-0.parquet").unlink()
    table = pq.read_table(inputs["sequences"])
    pq.write_table(table.slice(4), pieces["sequences"] / "part-0.parquet", row_group_size=1)
    pq.write_table(table.slice(0, 4), pieces["sequences"] / "part-1.parquet", row_group_size=2)
    one, items = load(inputs["sequences"], inputs["catalogue"]), read_items(inputs["catalogue"])
    monkeypatch.setattr(tables, "CHUNK", 2)
    other, chunked = load(pieces["sequences"], pieces["catalogue"]), read_items(pieces["catalogue"])
    assert facts(one) == facts(other)
    assert np.array_equal(one.has_text, other.has_text)
    assert chunked == items
    assert {column.num_chunks for column in chunked.columns} == {5}


def test_a_user_in_two_files_is_refused(write_tables) -> None:
    inputs = write_tables({"u": ["x", "y", "z"]})
    (file,) = inputs["sequences"].iterdir()
    file.with_name("part-1.parquet").write_bytes(file.read_bytes())
    with pytest.raises(DataError, match="user_id 'u' appears in more than one row"):
        load(inputs["sequences"], inputs["catalogue"])


@pytest.mark.parametrize(
    ("catalogue", "ends", "message"),
    [
        pytest.param(["x", "y"], None, "item 'z' is not in the catalogue", id="unknown item"),
        pytest.param(["x", "y", "z", "z"], None, "item_id 'z' appears in more than one row", id="item twice"),
        pytest.param([], None, "no rows", id="empty catalogue"),
        pytest.param(["x", "y", "z"], {"u": (3, 2)}, "user 'u' has split positions", id="ends crossed"),
        pytest.param(["x", "y", "z"], {"u": (3, 4)}, "user 'u' has split positions", id="end outside"),
    ],
)
def test_unusable_tables_are_named(write_tables, catalogue, ends, message) -> None:
    inputs = write_tables({"u": ["x", "y", "z"]}, catalogue=catalogue, ends=ends)
    with pytest.raises(DataError, match=message):
        load(inputs["sequences"], inputs["catalogue"])


def test_a_missing_table_is_named(write_tables, tmp_path) -> None:
    inputs = write_tables({"u": ["x", "y", "z"]})
    with pytest.raises(DataError, match=r"nowhere: not a readable Parquet table"):
        load(tmp_path / "nowhere", inputs["catalogue"])


def test_a_missing_column_is_named(write_tables) -> None:
    inputs = write_tables({"u": ["x", "y", "z"]})
    file = inputs["sequences"] / "part-0.parquet"
    pq.write_table(pq.read_table(file).drop_columns("train_end"), file)
    with pytest.raises(DataError, match="train_end"):
        load(inputs["sequences"], inputs["catalogue"])

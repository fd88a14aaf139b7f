"""What spreadsheets, warehouses and frames write: padding, nameless columns, unusual types of Parquet."""

import decimal
from datetime import UTC, datetime, time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from components.etl.sources import faults, raw
from components.etl.sources.readers import read
from components.shared.artifacts import raw_tables
from components.shared.artifacts.raw_sources import RawSource
from components.shared.artifacts.storage import Folder
from components.shared.errors import DataError
from tests.components.shared.artifacts.delta_log import ERASED, VECTOR, add_to_files

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


def rows(spark, folder: Path, table: str, *columns: str) -> list[tuple]:
    """Return the rows of `table` as the step reads them, by place."""
    source = raw_tables.locate(Folder.at(folder), table)
    raw_tables.check(source)
    raw_tables.read_to_the_end(source)
    return [tuple(row[name] for name in columns) for row in read(spark, source).orderBy("place").collect()]


def test_spaces_around_ids_and_columns_without_a_name_mean_nothing(spark, tmp_path: Path) -> None:
    """As fixed-width columns of a database, and a spreadsheet with formats beyond its last column."""
    (tmp_path / "items.csv").write_text(
        "item_id ;title;;\nA-7   ;Pot;;\n\ufeffB-8\u200b\u00a0\t;Cup;;\n;;;\n"
    )
    (tmp_path / "events.csv").write_text(
        "user_id, item_id, action, timestamp\nann, A-7, save , 2025-03-01T12:00Z\n"
    )
    assert rows(spark, tmp_path, "items", "item_id", "title") == [
        ("A-7", "Pot"),
        ("B-8", "Cup"),
        (None, None),
    ]
    found = rows(spark, tmp_path, "events", "user_id", "item_id", "action")
    assert found == [("ann", "A-7", "save")]


@pytest.mark.parametrize("mark", [",", ";", "|"])
def test_a_single_column_is_not_separated(spark, tmp_path: Path, mark: str) -> None:
    ids = [f"shop{mark}{number}" for number in range(5)]
    (tmp_path / "users.csv").write_text("\n".join(["user_id", *ids, ""]))
    assert rows(spark, tmp_path, "users", "user_id") == [(name,) for name in ids]


def test_capital_endings_are_read(spark, tmp_path: Path) -> None:
    (tmp_path / "users").mkdir()
    (tmp_path / "users/EXPORT1.CSV").write_text("user_id\nann\n")
    pq.write_table(pa.table({"item_id": ["A"], "title": ["Pot"]}), tmp_path / "items.PARQUET")
    assert rows(spark, tmp_path, "users", "user_id") == [("ann",)]
    assert rows(spark, tmp_path, "items", "title") == [("Pot",)]


def test_parquet_as_warehouses_and_frames_write_it(spark, tmp_path: Path) -> None:
    """Decimal ids, texts or nanoseconds for times, and unused columns of types that Spark does not know."""
    (tmp_path / "events").mkdir()
    same = {"item_id": ["A"], "action": ["view"], "opened": pa.array([time(9, 30)], pa.time32("ms"))}
    ids = pa.array([decimal.Decimal(10**18)], pa.decimal128(38, 0))
    for name, columns in (
        ("a", {"user_id": ids, "timestamp": ["2025-03-01 12:00:00"]}),
        (
            "b",
            {"user_id": pa.array([10**18], pa.uint64()), "timestamp": pa.array([NOON], pa.timestamp("ns"))},
        ),
        (
            "c",
            {"user_id": pa.array([10**18]), "timestamp": pa.array([NOON], pa.timestamp("ms", "Asia/Tokyo"))},
        ),
    ):
        pq.write_table(pa.table(columns | same), tmp_path / f"events/{name}.parquet")
    pq.write_table(
        pa.table({"item_id": ["A"], "title": ["Pot"], "tags": pa.array([[7, None]], pa.list_(pa.uint16()))}),
        tmp_path / "items.parquet",
    )
    found = rows(spark, tmp_path, "events", "user_id", "timestamp")
    assert found == [(str(10**18), NOON.replace(tzinfo=None))] * 3
    assert rows(spark, tmp_path, "items", "tags") == [(["7"],)]


def test_rows_erased_by_deletion_vectors_of_delta_are_not_read(spark, tmp_path: Path) -> None:
    users = pa.table({"user_id": [f"u{n}" for n in range(80)], "gender": ["a b", "50%"] * 40})
    write_deltalake(str(tmp_path / "users"), users, partition_by=["gender"])
    add_to_files(tmp_path / "users", deletionVector=VECTOR)
    erased = {f"u{2 * place + second}" for place in ERASED for second in (0, 1)}
    found = rows(spark, tmp_path, "users", "user_id", "gender")
    assert set(found) == {
        (user, gender) for user, gender in zip(*users.to_pydict().values(), strict=True) if user not in erased
    }


def test_ids_that_are_no_text_are_refused(spark, tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": [b"\x80\x81", b"ann"]}), tmp_path / "users.parquet")
    source = raw_tables.locate(Folder.at(tmp_path), "users")
    found = faults.keyed_faults(read(spark, source), "user_id").select("user_id", "fault").collect()
    assert {row.fault for row in found} == {"binary_user_id", None}
    assert "export them as text" in raw.faults.advice("binary_user_id")


@pytest.mark.parametrize(("row", "is_there"), [('"Alter": 4', False), ('"Gr\\u00f6\\u00dfe": 1', True)])
def test_a_column_that_no_line_of_json_has_is_named(tmp_path: Path, row: str, is_there: bool) -> None:
    given = RawSource(columns={"age": "Alter", "gender": "Größe"})
    (tmp_path / "users.jsonl").write_text(f'{{"user_id": "a", "Alter": 3}}\n{{"user_id": "b", {row}}}\n')
    source = raw_tables.locate(Folder.at(tmp_path), "users", given)
    raw_tables.check(source)
    if is_there:
        raw_tables.read_to_the_end(source)
    else:
        with pytest.raises(DataError, match=r"column 'Größe', which sources.*gender, is missing"):
            raw_tables.read_to_the_end(source)

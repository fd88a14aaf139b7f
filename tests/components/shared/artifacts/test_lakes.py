"""Folders with a log of their own: Delta is read by it, the others are refused by name."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from components.shared.artifacts import lakes, raw_tables
from components.shared.artifacts.storage import Folder, upload
from components.shared.errors import DataError
from tests.components.shared.artifacts.delta_log import ERASED, VECTOR, add_to_files
from tests.components.shared.artifacts.s3_server import serving

USERS = pa.table({"user_id": ["a", "b", "c"], "gender": ["f", "not said", "50%"]})


def test_a_delta_table_has_its_live_files_alone(tmp_path):
    path = str(tmp_path / "users")
    write_deltalake(path, USERS, partition_by=["gender"])
    DeltaTable(path).delete("user_id = 'b'")
    write_deltalake(path, USERS.slice(2), mode="append")
    source = raw_tables.locate(Folder.at(tmp_path), "users")
    raw_tables.check(source)
    read = sorted(
        (row["user_id"], source.values[file]["gender"])
        for file in source.files
        for row in pq.ParquetFile(tmp_path / file).read().to_pylist()
    )
    assert read == [("a", "f"), ("c", "50%"), ("c", "50%")]
    assert not source.is_log


def test_rows_erased_by_deletion_vectors_are_known_by_file(tmp_path):
    path = tmp_path / "users"
    rows = pa.table({"user_id": [f"u{n}" for n in range(80)], "gender": ["a b", "50%"] * 40})
    write_deltalake(str(path), rows, partition_by=["gender"])
    add_to_files(path)
    assert raw_tables.locate(Folder.at(tmp_path), "users").erased == {}
    add_to_files(path, deletionVector=VECTOR)
    source = raw_tables.locate(Folder.at(tmp_path), "users")
    assert {file: list(found) for file, found in source.erased.items()} == dict.fromkeys(source.files, ERASED)


def test_deletion_vectors_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    write_deltalake(str(tmp_path / "users"), USERS)
    add_to_files(tmp_path / "users", deletionVector=VECTOR)
    with pytest.raises(DataError, match=r"users: the log of this Delta table is not readable .*length 30"):
        raw_tables.locate(Folder.at(tmp_path), "users")
    monkeypatch.setattr(lakes, "_erased", lambda table: {"file:///gone.parquet": pa.array([0]).to_numpy()})
    with pytest.raises(DataError, match=r"users: .*a deletion vector for file:///gone\.parquet"):
        raw_tables.locate(Folder.at(tmp_path), "users")


def test_a_clone_whose_files_lie_elsewhere_is_refused(tmp_path):
    write_deltalake(str(tmp_path / "users"), USERS)
    path = next((tmp_path / "users").glob("*.parquet"))
    add_to_files(tmp_path / "users", path=path.as_uri())
    with pytest.raises(DataError, match=r"users: a shallow clone, whose files lie elsewhere \(file://"):
        raw_tables.locate(Folder.at(tmp_path), "users")


def test_a_path_that_the_reader_of_delta_would_decode_is_refused(tmp_path):
    """It would read the table of another folder."""
    write_deltalake(str(tmp_path / "a b/users"), USERS)
    shutil.copytree(tmp_path / "a b", tmp_path / "a%20b")
    with pytest.raises(DataError, match=r"a%20b/users: .*rename the folder"):
        raw_tables.locate(Folder.at(tmp_path / "a%20b"), "users")


def test_a_broken_log_is_named(tmp_path):
    write_deltalake(str(tmp_path / "users"), USERS)
    log = tmp_path / "users/_delta_log/00000000000000000000.json"
    log.write_text("{")
    for _ in range(2):  # then without a file
        with pytest.raises(DataError, match="users: the log of this Delta table is not readable"):
            raw_tables.locate(Folder.at(tmp_path), "users")
        log.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("marker", "name"),
    [
        ("users/.hoodie/hoodie.properties", "Apache Hudi"),
        ("users/day=1/.hoodie_partition_metadata", "Apache Hudi"),
        ("users/.fa81-0_20250105.log.1_0-4-2", "Apache Hudi"),
        ("users/metadata/v1.metadata.json", "Apache Iceberg"),
        ("users/metadata/00001-9f.metadata.json", "Apache Iceberg"),
        ("users/snapshot/snapshot-1", "Apache Paimon"),
        ("users/delta_0000001_0000001_0000/bucket_00000", "Hive ACID"),
        ("users/base_0000002/bucket_00000", "Hive ACID"),
        ("users/_versions/1.manifest", "Lance"),
        ("users/day=1/_delta_log/00000000000000000000.json", "Delta"),
    ],
)
def test_other_formats_are_refused_with_the_way_out(tmp_path, marker, name):
    (tmp_path / marker).parent.mkdir(parents=True)
    (tmp_path / marker).write_text("{}")
    pq.write_table(USERS, tmp_path / "users/part-0.parquet")
    with pytest.raises(
        DataError, match=rf"users: a table of {name} .*export its current state as plain Parquet"
    ):
        raw_tables.locate(Folder.at(tmp_path), "users")


@pytest.mark.parametrize(
    ("key", "name"), [("iceberg.schema", "Apache Iceberg"), ("hoodie_min_record_key", "Apache Hudi")]
)
def test_files_of_a_table_without_its_log_are_refused(tmp_path, key, name):
    pq.write_table(USERS.replace_schema_metadata({key: "x"}), tmp_path / "users.parquet")
    source = raw_tables.locate(Folder.at(tmp_path), "users")
    with pytest.raises(DataError, match=rf"users\.parquet: a file of a table of {name}.*export"):
        raw_tables.check(source)


def test_a_delta_table_in_object_storage_is_read_by_its_log(tmp_path, monkeypatch):
    path = str(tmp_path / "data/users")
    write_deltalake(path, USERS)
    DeltaTable(path).delete("user_id = 'b'")
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        (tmp_path / "empty").mkdir()
        uri = server.upload(tmp_path / "empty", "logs", "day")
        for file in (tmp_path / "data").rglob("*.*"):
            upload(file, f"{uri}/{file.relative_to(tmp_path / 'data')}")
        source = raw_tables.locate(Folder.at(uri.replace("s3:", "minio:")), "users")
        raw_tables.check(source)
        assert raw_tables.approximate_rows(source) == 2

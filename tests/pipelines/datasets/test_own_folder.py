"""Only what the project wrote is replaced, on disk and in a real S3 server."""

from pathlib import Path

import pytest

from components.shared.errors import DataError
from pipelines.datasets.own_folder import MARKER, RECOMMENDED, own_folder
from pipelines.datasets.synthetic.config import SampleConfig
from pipelines.datasets.synthetic.log import generate
from tests.components.shared.artifacts.s3_server import serving


def write(out: str | Path, **files: str) -> None:
    with own_folder(out) as folder:
        for name, text in files.items():
            (folder / f"{name}.parquet").write_text(text)


def test_its_own_folder_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "data"
    write(out, users="1", exposures="1")
    write(out, users="2")
    assert {path.name: path.read_text() for path in out.iterdir() if path.name != MARKER} == {
        "users.parquet": "2"
    }
    with pytest.raises(ValueError, match="stop"), own_folder(out) as folder:
        (folder / "users.parquet").write_text("3")
        raise ValueError("stop")
    assert (out / "users.parquet").read_text() == "2"


@pytest.mark.parametrize("name", ["events.parquet", "notes.txt", ".hidden"])
def test_others_files_are_never_replaced_not_even_tables(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(DataError, match=f"{tmp_path}: holds {name}, which would be lost"):
        generate(SampleConfig(users=5, items=20), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_that_was_put_beside_its_own_is_not_lost(tmp_path: Path) -> None:
    write(tmp_path / "data", users="1")
    (tmp_path / "data/exposures.csv").write_text("mine")
    with pytest.raises(DataError, match=r"data: holds exposures\.csv, which would be lost"):
        write(tmp_path / "data", users="2")
    assert (tmp_path / "data/users.parquet").read_text() == "1"


def test_recommendations_do_not_replace_raw_tables(tmp_path: Path) -> None:
    out = tmp_path / "data"
    write(out, users="1")
    with pytest.raises(DataError, match=r"data: holds users\.parquet"), own_folder(out, RECOMMENDED):
        raise AssertionError("nothing is made for such a folder")
    assert (out / "users.parquet").read_text() == "1"


def test_an_empty_folder_is_taken_also_behind_a_link(tmp_path: Path) -> None:
    write(tmp_path / "a", users="1")
    (tmp_path / "b").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "b")
    write(tmp_path / "link", users="1")
    assert (tmp_path / "b/users.parquet").exists() and (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("{}/file", "/file: cannot be made: .*/file is a file"),
        ("{}/file/below", "file/below: cannot be made: .*/file is a file"),
        (" ", "--out is empty"),
        ("/proc/data", "/proc/data: cannot be made"),
        ("gs://logs/day", "gs://logs/day: must be a folder, or an s3:// or minio:// URI"),
        ("s3://logs/a#b", "'#'; percent-encode it as %23"),
    ],
)
def test_where_nothing_can_be_written_is_named(tmp_path: Path, out: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=message):
        write(out.format(tmp_path), users="1")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_the_same_in_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        client = server.client()
        client.create_bucket(Bucket="logs")
        write("s3://logs/new", users="1", exposures="1")
        write("s3://logs/new/", users="2")
        listed = client.list_objects_v2(Bucket="logs", Prefix="new/")["Contents"]
        files = [entry["Key"] for entry in listed if not entry["Key"].endswith("/")]
        assert files == [f"new/{MARKER}", "new/users.parquet"]
        assert client.get_object(Bucket="logs", Key="new/users.parquet")["Body"].read() == b"2"

        client.put_object(Bucket="logs", Key="mine/events.parquet", Body=b"mine")
        with pytest.raises(DataError, match=r"s3://logs/mine: holds events\.parquet"):
            write("s3://logs/mine", users="1")

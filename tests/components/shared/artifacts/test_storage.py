"""Folders on this machine and behind a real S3 server."""

from pathlib import Path

import pytest

from components.shared.artifacts import raw_tables
from components.shared.artifacts.storage import (
    Folder,
    download,
    is_remote,
    local_copy,
    original,
    remove,
    stamp,
    upload,
)
from components.shared.errors import DataError
from tests.components.shared.artifacts.s3_server import serving


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Upload a file; point the environment at the server."""
    (tmp_path / "day").mkdir()
    (tmp_path / "day" / "users.csv").write_text("user_id")
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server.upload(tmp_path / "day", "logs", "day")


@pytest.fixture(params=["s3", "minio"])
def uri(bucket, request):
    """Return the URI of the uploaded folder in each of its spellings."""
    return bucket.replace("s3://", f"{request.param}://")


def test_files_come_go_and_are_removed(uri, tmp_path):
    (tmp_path / "file").write_text("text")
    upload(tmp_path / "file", f"{uri}/more/file")
    folder = Folder.at(f"{uri}/more/")
    assert [folder.inner(file.path) for file in folder.files()] == ["file"]
    assert (folder.spark("file"), folder.shown("file")) == ("s3a://logs/day/more/file", f"{uri}/more/file")
    download(f"{uri}/more", tmp_path / "back")
    assert (tmp_path / "back/file").read_text() == "text"
    remove(f"{uri}/more")
    remove(f"{uri}/more")  # what is not there needs no removing
    assert {Path(file.path).name for file in Folder.at(uri).files()} == {"users.csv"}
    with pytest.raises(DataError, match=r"more: no such folder"):
        download(f"{uri}/more", tmp_path / "none")


def test_a_remote_folder_is_copied_and_a_local_one_stays_where_it_is(uri, tmp_path):
    assert is_remote(uri)
    copy = local_copy(uri)
    assert [(file.name, file.read_text()) for file in copy.iterdir()] == [("users.csv", "user_id")]
    assert local_copy(str(tmp_path)) == local_copy(tmp_path) == tmp_path
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        local_copy(f"{uri}/nowhere")


def test_files_of_a_copy_are_shown_with_their_remote_address(uri, tmp_path):
    copy = Folder.at(local_copy(uri))
    assert copy.shown("users.csv") == f"{uri}/users.csv"
    assert original(f"{tmp_path}/users.csv") == f"{tmp_path}/users.csv"
    (Path(copy.root) / "users.csv").write_text("id\n1\n")
    with pytest.raises(DataError, match=rf"^{uri}/users.csv: column 'user_id' is missing"):
        raw_tables.check(raw_tables.locate(copy, "users"))


@pytest.mark.parametrize("odd", ["s3://logs/a b", "s3://logs/50%"])
def test_a_uri_that_is_none_is_named_with_the_remedy(bucket, odd):
    with pytest.raises(DataError, match="percent-encode"):
        Folder.at(odd).entries()


def test_both_schemes_name_the_same_files(bucket):
    assert stamp(bucket) == stamp(bucket.replace("s3://", "minio://"))


def test_a_local_folder_has_the_same_methods(tmp_path):
    (tmp_path / "data" / "inner").mkdir(parents=True)
    (tmp_path / "data" / "inner" / "part*.csv").write_text("a")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    folder = Folder.at(tmp_path / "data")
    assert [entry.base_name for entry in folder.entries()] == ["inner", "loop"]
    assert [folder.inner(file.path) for file in folder.files()] == ["inner/part*.csv"]
    assert folder.spark("part*.csv").endswith(r"/data/part\*.csv")
    before = stamp(str(tmp_path / "data"))
    (tmp_path / "data" / "inner" / "part*.csv").write_text("ab")
    assert stamp(str(tmp_path / "data")) != before
    remove(tmp_path / "data" / "inner")
    with pytest.raises(DataError, match=r"no file there"):
        stamp(str(tmp_path / "data"))
    with pytest.raises(DataError, match=r"logs\\n' begins or ends with a space"):
        Folder.at(f"{tmp_path}/logs\n")
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        Folder.at(tmp_path / "nowhere").entries()

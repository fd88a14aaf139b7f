"""Outputs appear whole or not at all."""

import logging
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from components.shared.artifacts.outputs import atomic_file, atomic_folder, write_json, write_text
from components.shared.errors import OutputError

ROOT = Path(__file__).resolve().parents[4]


def test_a_failed_block_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "table"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:
        (folder / "a").write_text("new")
        raise RuntimeError
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_all_files_of_a_folder_can_be_read_by_whoever_reads_new_files(tmp_path: Path) -> None:
    (tmp_path / "neighbour").write_text("x")
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "part").mkdir()
        for name in ("model.safetensors", "part/more"):
            (folder / name).write_text("x")
            (folder / name).chmod(0o600)
    usual = (tmp_path / "neighbour").stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / "model").rglob("*") if path.is_file()} == {usual}


def test_leftovers_of_a_kill_do_not_reach_the_next_output(tmp_path: Path) -> None:
    leftover = tmp_path / ".table.partial"
    leftover.mkdir()
    (leftover / "half").write_text("x")
    (tmp_path / ".table.lock").touch()
    with atomic_folder(tmp_path / "table") as folder:
        (folder / "a").write_text("new")
    assert [path.name for path in (tmp_path / "table").iterdir()] == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_an_older_output_caught_between_the_renames_comes_back(tmp_path: Path) -> None:
    old = tmp_path / ".table.old"
    old.mkdir()
    (old / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "table"):
        raise RuntimeError
    assert (tmp_path / "table" / "a").read_text() == "old"


WRITER = """
import sys
from pathlib import Path
from components.shared.artifacts.outputs import atomic_folder
with atomic_folder(Path(sys.argv[1])) as folder:
    print("writing", flush=True)
    sys.stdin.read()
    (folder / "theirs").write_text("whole")
"""


def test_two_processes_never_mix_their_outputs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "table")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdin and other.stdout and other.stdout.readline() == b"writing\n"
        threading.Timer(1, other.stdin.close).start()
        with caplog.at_level(logging.INFO, "recllm"), atomic_folder(tmp_path / "table") as folder:
            assert [path.name for path in (tmp_path / "table").iterdir()] == ["theirs"]
            (folder / "mine").write_text("whole")
    assert [path.name for path in (tmp_path / "table").iterdir()] == ["mine"]
    assert [path.name for path in tmp_path.iterdir()] == ["table"]
    assert "another process holds" in caplog.text


def test_text_replaces_and_nan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "figures.json"
    write_text(path, "old")
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert path.read_text() == '{\n  "a": 1\n}\n'


def test_a_file_appears_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.pt"
    with atomic_file(path) as partial:
        partial.write_text("first")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as partial:
        partial.write_text("sec")
        raise KeyboardInterrupt
    assert [(file.name, file.read_text()) for file in path.parent.iterdir()] == [("state.pt", "first")]


def test_a_full_disk_is_named_with_the_output(small_disk: Path) -> None:
    write_text(small_disk / "page.html", "old")
    with pytest.raises(OutputError, match=r"page\.html is not written: a disk is full"):
        write_text(small_disk / "page.html", "x" * 100_000)
    with (
        pytest.raises(OutputError, match=r"^\S+table is not written: a disk is full"),
        atomic_folder(small_disk / "other"),
        atomic_folder(small_disk / "table") as folder,
    ):
        pq.write_table(pa.table({"a": list(range(50_000))}), folder / "part.parquet")
    with (
        pytest.raises(OutputError, match="model is not written: a disk is full"),
        atomic_folder(small_disk / "model") as folder,
    ):
        save_file({"weights": np.zeros(50_000)}, folder / "model.safetensors")
    assert [path.name for path in small_disk.iterdir()] == ["page.html"]
    assert (small_disk / "page.html").read_text() == "old"


def test_what_stands_in_the_way_of_a_file_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "page.html", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]

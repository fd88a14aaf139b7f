"""Outputs appear whole or not at all."""

from pathlib import Path

import pytest

from components.shared.outputs import whole_folder, write_json, write_text


def test_a_failed_block_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "table"
    with whole_folder(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), whole_folder(target) as folder:
        (folder / "a").write_text("new")
        raise RuntimeError
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_leftovers_of_a_kill_do_not_reach_the_next_output(tmp_path: Path) -> None:
    leftover = tmp_path / ".table.partial"
    leftover.mkdir()
    (leftover / "half").write_text("x")
    with whole_folder(tmp_path / "table") as folder:
        (folder / "a").write_text("new")
    assert [path.name for path in (tmp_path / "table").iterdir()] == ["a"]


def test_text_replaces_and_nan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "figures.json"
    write_text(path, "old")
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert path.read_text() == '{\n  "a": 1\n}\n'

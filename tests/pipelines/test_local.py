"""Where local runs write: paths that every part reads alike."""

from pathlib import Path

import pytest

from components.shared.errors import UserError
from pipelines import local, profile


@pytest.mark.parametrize(
    "name", ["a%20b", "a%b", "why?", "c#", "*", "{x}", "[x]", "C:", "a\\b", "a\nb", "a\udcff"]
)
def test_a_path_that_some_part_would_read_otherwise_is_refused_at_the_start(
    name: str, tmp_path: Path
) -> None:
    for folder in (tmp_path / name, tmp_path / name / "runs"):
        with pytest.raises(UserError, match=r"--runs .*: holds .*, which SQLite's addresses"):
            local.run(profile.load("tiny"), "tiny", None, folder, cache=True, verbose=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b", "ü-é", "it's", "a&b=c+d", "(x)@~$!;,^"])
def test_other_paths_are_taken(name: str, tmp_path: Path) -> None:
    assert local.plain_path(tmp_path / name) == tmp_path / name

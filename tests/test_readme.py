"""The READMEs: short enough to be read, in step with the command line, and without dead links."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
READMES = [README, *(ROOT / "components").rglob("README.md"), *(ROOT / "pipelines").rglob("README.md")]
READMES += [path for part in ("data_contracts", "docker", "k8s") for path in (ROOT / part).rglob("README.md")]


def test_the_readme_shows_the_present_help() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", "from pipelines.cli import app; app(prog_name='recllm')", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "100"},
    ).stdout
    quoted = "\n".join(line.rstrip() for line in shown.strip().splitlines())
    assert f"```\n{quoted}\n```" in README.read_text(encoding="utf-8")


def test_the_readme_has_at_most_2000_words() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= 2000


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(readme: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", readme.read_text(encoding="utf-8"))
    assert [link for link in links if not (readme.parent / link).exists()] == []


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_paths_exist(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    paths = re.findall(r"`((?:components|pipelines|data_contracts|k8s|tests)/[\w/.-]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []

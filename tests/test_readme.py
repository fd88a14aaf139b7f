"""What the README quotes of the software is what the software says."""

import os
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


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

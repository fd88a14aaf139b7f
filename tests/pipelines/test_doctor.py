"""`recllm doctor`: a table of what each check finds, and exit code 1 if one fails."""

import os
import subprocess
import sys
from pathlib import Path


def doctor(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-m", "pipelines.cli", "doctor", *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, env=env | {"COLUMNS": "200"}
    )


def test_a_sound_machine_passes(data: Path, tmp_path: Path) -> None:
    shown = doctor("--profile", "tiny", "--data", str(data), cwd=tmp_path)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for title in ("raw data", "MLflow", "folder runs/checkpoints"):
        assert any(line.startswith(title) and " ok " in line for line in shown.stdout.splitlines())


def test_every_fault_is_shown_and_the_exit_code_is_1(data: Path, tmp_path: Path) -> None:
    (data / "items.csv").unlink()
    (tmp_path / "profile.yaml").write_text('register: {tracking_uri: "http://127.0.0.1:9"}\n')
    shown = doctor("--profile", "profile.yaml", "--data", str(data), cwd=tmp_path)
    assert shown.returncode == 1
    assert "no items table" in shown.stdout
    assert "no answer from http://127.0.0.1:9" in shown.stdout
    assert "Traceback" not in shown.stderr

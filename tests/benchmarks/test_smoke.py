"""Every benchmark still runs, at sizes of seconds: what it prints there is no measurement."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def run(name: str, *options: object) -> str:
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", *map(str, options)],
        cwd=FOLDER.parents[1],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
def test_etl():
    printed = run("etl", "2_000", "--memory", "1g", "--engines", "polars,transform")
    assert "2,000 events: transform runs at" in printed


@pytest.mark.slow
def test_retrieve():
    printed = run("retrieve", "--smoke")
    assert "| sasrec |" in printed and "DIFFERENT" not in printed


@pytest.mark.slow
def test_grpo():
    engines = "both" if importlib.util.find_spec("trl") else "local"
    assert "| local engine |" in run("grpo", "--smoke", "--steps", 1, "--engines", engines)
    if engines == "local":
        pytest.skip("the local engine runs; TRL is not installed (the extra `bench`)")


@pytest.mark.slow
def test_learning(prompts_folder, tiny_model_folder):
    sizes = ("--profile", "tiny", "--seeds", 1, "--steps", 1, "--prompts", 2)
    printed = run("learning", "--table", prompts_folder, "--model", tiny_model_folder, *sizes)
    assert "| mean of 1 |" in printed

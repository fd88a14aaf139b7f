"""Killed at any moment and started again, a step gives the same bytes and never half an output."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.shared.errors import OutputError

ROOT = Path(__file__).resolve().parents[4]
TABLES = ("sequences", "catalogue", "users", "exposures", "quarantine")
RUN = """
import sys
from pathlib import Path
from components.etl.config import SequencesConfig
from components.etl.sequences.job import run_sequences
from tests.small_spark import SPARK
data, out = sys.argv[1], Path(sys.argv[2])
places = {n: out / n for n in ("sequences", "catalogue", "users", "exposures", "quarantine")}
run_sequences(SequencesConfig(partitions=2, spark=SPARK), data, **places, page=out / "docs.html")
print("done", flush=True)
"""


def digest(folder):
    return {
        n: [hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted((folder / n).iterdir())]
        for n in TABLES
    }


def start(data, out):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(data), str(out)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killed_at_random_moments_and_started_again(prepared, tmp_path):
    moments = int(os.environ.get("RECLLM_KILLS", "6"))
    whole = digest(prepared.folder)
    chance = random.Random(7)
    hits = 0
    for _ in range(moments):
        process = start(prepared.data, tmp_path)
        while process.poll() is None and not any(tmp_path.glob(".*.partial")):
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 8))  # from the first output's beginning on
        if process.poll() is None:
            kill(process)
            hits += 1
        visible = [name for name in TABLES if (tmp_path / name).exists()]
        for name in visible:  # what a reader sees is whole, from this run or the one before
            assert {**whole, name: digest_one(tmp_path / name)} == whole
    assert hits, "no kill came before the end"
    assert start(prepared.data, tmp_path).wait() == 0
    assert digest(tmp_path) == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*TABLES, "docs.html"])


def digest_one(folder):
    return [hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())]


@pytest.mark.slow
def test_a_full_disk_is_named(prepared, run_step, small_disk):
    with pytest.raises(OutputError, match="disk is full"):
        run_step(prepared.data, small_disk / "out")
    assert not any(name.startswith(TABLES) for name in os.listdir(small_disk / "out"))

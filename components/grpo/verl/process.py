"""A module of verl as a process of its own, which ends with this one."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.shared.errors import TrainingError
from components.shared.processes import die_with_parent

PROJECT = Path(__file__).parents[3]
"""Folder of the project's packages: verl's workers import the reward from it."""

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # the model is a folder
    "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
}

_SECONDS_TO_STOP = 60
_LINES_SHOWN = 30


@contextlib.contextmanager
def running(module: str, arguments: Sequence[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module; the end of the block stops it and all that it started."""
    with output.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=output.parent,  # verl leaves Hydra's folder where it runs
            env={"RAY_USAGE_STATS_ENABLED": "0", **os.environ, **ENVIRONMENT},
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            yield process
        finally:
            _stop(process)


def failure(what: str, output: Path) -> TrainingError:
    """Return an error with the end of verl's output, and a remedy if known."""
    lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    text = "\n".join(lines[-_LINES_SHOWN:])
    advice = ""
    if any("out of memory" in line or "OutOfMemoryError" in line for line in lines):
        advice = "; memory ran out: lower grpo.verl.max_tokens_per_gpu or grpo.verl.gpu_memory_utilization"
    return TrainingError(f"grpo: {what}{advice}. The end of {output}:\n{text}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and its session: verl's driver ends Ray when it is asked to."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_STOP)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

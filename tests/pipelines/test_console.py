"""What a person sees of a run, and how the cause of a failure is found: by the events that steps write."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from components.shared.logs import EVENTS_VARIABLE
from pipelines.console import Console

# As KFP starts a step: its name is on the command line, and an error ends the process.
STEP = """
from components.shared.errors import DataError
from components.shared.logs import logger, progress
log = logger("{step}")
{body}
"""


class Terminal(io.StringIO):
    """A screen that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run step bodies under a console; return it and its screen. `log` stands for kfp.local's output."""

    def run(
        *steps: tuple[str, str], screen: io.StringIO | None = None, log: str = "", verbose: bool = False
    ) -> tuple[Console, str]:
        screen = screen or io.StringIO()
        monkeypatch.setenv(EVENTS_VARIABLE, str(tmp_path / "events.jsonl"))
        (tmp_path / "run.log").write_text(log)
        with Console(tmp_path, screen, verbose) as console:
            for step, body in steps:
                command = [sys.executable, "-c", STEP.format(step=step.replace("-", " "), body=body)]
                name = ["--function_to_execute", step.replace("-", "_")]
                subprocess.run([*command, *name], check=False, capture_output=True)
        return console, screen.getvalue()

    return run


def shown(screen: str) -> list[str]:
    return [line.partition("] ")[2] for line in screen.splitlines()]


def test_seconds_are_those_from_step_to_step(show) -> None:
    console, _ = show(("sequences", "log.info('reading')"), ("base-model", "import time; time.sleep(1)"))
    seconds = console.step_seconds()
    assert list(seconds) == ["sequences", "base-model"]
    assert min(seconds.values()) >= 0


def test_progress_is_shown(show) -> None:
    body = "log.info('reading'); progress(log, 1, 2, 'loss 0.5'); print('Some library: noise')"
    _, screen = show(("sequences", body), ("base-model", "log.warning('no commit')"))
    assert shown(screen) == [
        "sequences: reading",
        "sequences: 1/2, loss 0.5",
        "base model: no commit",
    ]


def test_verbose_shows_the_log_instead(show) -> None:
    _, screen = show(("sft", "log.info('reading')"), log="\x1b[96mTask\x1b[0m\nnoise\n", verbose=True)
    assert shown(screen) == ["Task", "noise"]


def test_a_terminal_shows_a_bar_until_all_is_done(show) -> None:
    body = "import time\nfor n in (1, 2, 3): progress(log, n, 3, f'loss {n}'); time.sleep(0.5)"
    _, screen = show(("sft", body), screen=Terminal())
    assert "1/3, loss 1" in screen and "━" in screen
    assert "sft: 3/3, loss 3" in screen


def test_the_cause_is_that_of_the_first_failed_step_with_all_its_lines(show) -> None:
    error = "raise DataError('events.csv: column action is missing\\n  row 3: {...}')"
    console, _ = show(("sequences", error), ("base-model", "1 / 0"))
    assert console.failure("") == ("sequences", "events.csv: column action is missing\n  row 3: {...}")


def test_the_cause_is_known_as_soon_as_the_step_has_ended(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(EVENTS_VARIABLE, str(tmp_path / "events.jsonl"))
    (tmp_path / "run.log").write_text("")
    body = STEP.format(step="sft", body="raise DataError('no row')")
    with Console(tmp_path, io.StringIO()) as console:
        command = [sys.executable, "-c", body, "--function_to_execute", "sft"]
        subprocess.run(command, check=False, capture_output=True)
        assert console.failure("") == ("sft", "no row")


def test_an_unforeseen_error_shows_its_last_line(show) -> None:
    console, _ = show(("sft", "1 / 0"))
    assert console.failure("") == ("sft", "ZeroDivisionError: division by zero")


def test_a_step_that_ends_without_an_event_shows_the_end_of_its_log(show) -> None:
    log = """\
12:00:00.000 - INFO - Executing task \x1b[96m'sft'\x1b[0m
    Traceback (most recent call last):
      File "x.py", line 1, in run
    ModuleNotFoundError: No module named 'torch'

12:00:01.000 - ERROR - Task \x1b[96m'sft'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m
12:00:01.100 - INFO - Executing task 'base-model'
"""
    console, _ = show(log=log)
    step, cause = console.failure(
        "Pipeline 'x' finished. Inner task failed: \x1b[96m'sft'\x1b[0m inside 'exit'."
    )
    assert step == "sft"
    assert cause.endswith("ModuleNotFoundError: No module named 'torch'")
    assert "base-model" not in cause

"""What a person sees of a run, and how the cause of a failure is found in the steps' output."""

import io
from pathlib import Path

from pipelines.console import Console

FAILED = """\
12:00:00.000 - INFO - Executing task 'sequences'
12:00:00.100 - INFO - Streamed logs:

    sequences: reading
    Some library: noise
    Traceback (most recent call last):
      File "x.py", line 1, in run
    components.shared.errors.DataError: events.csv: column 'action' is missing
      row 3: {...}

12:00:01.000 - ERROR - Task 'sequences' finished with status FAILURE
12:00:01.100 - INFO - Executing task 'run-end'
    run_end: the run ended as FAILED
12:00:01.200 - INFO - Task 'run-end' finished with status SUCCESS
"""


def test_progress_is_shown_and_everything_is_logged(tmp_path: Path) -> None:
    screen = io.StringIO()
    console = Console(screen, tmp_path / "run.log")
    console.write(FAILED)
    console.close()
    assert [line.partition("] ")[2] for line in screen.getvalue().splitlines()] == [
        "sequences: reading",
        "run_end: the run ended as FAILED",
    ]
    assert (tmp_path / "run.log").read_text() == FAILED


def test_the_cause_is_that_of_the_first_failed_step_with_all_its_lines(tmp_path: Path) -> None:
    console = Console(io.StringIO(), tmp_path / "run.log")
    console.write(FAILED)
    step, cause = console.failure()
    assert step == "sequences"
    assert cause == "events.csv: column 'action' is missing\n  row 3: {...}"


def test_an_unforeseen_error_shows_its_last_lines(tmp_path: Path) -> None:
    console = Console(io.StringIO(), tmp_path / "run.log")
    console.write("Executing task 'sft'\n    Traceback\n    ZeroDivisionError: division by zero\n")
    assert console.failure() == ("sft", "    Traceback\n    ZeroDivisionError: division by zero")

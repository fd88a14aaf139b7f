"""Events of a step that runs in a process of its own, as the console reads them."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.shared import logs

ROOT = Path(__file__).resolve().parents[3]
STEP = """
from components.shared import logs
from components.shared.errors import DataError
log = logs.logger("sft")
log.debug("not shown")
log.info("%d examples", 5)
logs.progress(log, 3, 12, "loss 0.5")
log.warning("odd")
"""


def events(tmp_path: Path, code: str, *arguments: str) -> tuple[list[dict], subprocess.CompletedProcess]:
    """Run `code` with an events file and return what was appended to it."""
    file = tmp_path / "events.jsonl"
    file.write_text('{"event": "of another task"}\n')
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, logs.EVENTS_VARIABLE: str(file)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    first, *others = file.read_text().splitlines()
    assert first == '{"event": "of another task"}'
    return [json.loads(line) for line in others], done


def test_records_and_progress_are_appended_as_json(tmp_path: Path) -> None:
    found, done = events(tmp_path, STEP, "--function_to_execute", "base_model")
    assert done.returncode == 0
    assert all(event.pop("task") == "base-model" for event in found)
    assert found == [
        {"event": "started"},
        {"event": "log", "step": "sft", "level": "INFO", "message": "5 examples"},
        {
            "event": "log",
            "step": "sft",
            "level": "INFO",
            "message": "3/12, loss 0.5",
            "done": 3,
            "total": 12,
        },
        {"event": "log", "step": "sft", "level": "WARNING", "message": "odd"},
    ]


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        pytest.param("raise DataError('events.parquet: no such\\nfile')", "events.parquet: no such\nfile"),
        pytest.param("{}['key']", "KeyError: 'key'"),
    ],
    ids=["user error", "unforeseen error"],
)
def test_a_failure_is_the_last_event_and_keeps_its_traceback(
    tmp_path: Path, failure: str, message: str
) -> None:
    found, done = events(tmp_path, STEP + failure, "--function_to_execute", "sft")
    assert found[-1] == {"task": "sft", "event": "failed", "message": message}
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr


def test_a_process_that_is_no_task_appends_nothing(tmp_path: Path) -> None:
    found, done = events(tmp_path, STEP + "{}['key']")
    assert found == [] and "KeyError" in done.stderr


def test_without_a_file_records_go_where_logging_sends_them(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="recllm"):
        logs.progress(logs.logger("grpo"), 1, 2)
    (record,) = caplog.records
    assert (record.name, record.getMessage()) == ("recllm.grpo", "1/2")
    assert vars(record)["done"] == 1 and vars(record)["total"] == 2

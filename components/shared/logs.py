"""Logging of the steps: plain lines in a pod, records for the console of a local run.

KFP's executor prints what is logged. Where RECLLM_EVENTS names a file, every record of a KFP task is also
appended to it as a line of JSON: from these `recllm run` draws its progress and learns why a step failed.
"""

import functools
import json
import logging
import multiprocessing
import os
import sys
from types import TracebackType
from typing import Any

from components.shared import causes

EVENTS_VARIABLE = "RECLLM_EVENTS"
"""Environment variable with the file that events are appended to."""


def logger(name: str) -> logging.Logger:
    """Return the logger of the step (or part of one) called `name`."""
    _attach_events()
    return logging.getLogger(f"recllm.{name}")


def progress(log: logging.Logger, done: int, total: int, detail: str = "") -> None:
    """Log that `done` of `total` units are done; a local run draws a bar."""
    log.info("%d/%d%s", done, total, f", {detail}" if detail else "", extra={"done": done, "total": total})


@functools.cache
def _attach_events() -> None:
    root = logging.getLogger("recllm")
    root.setLevel(logging.INFO)
    # A task's helper processes (Spark's workers, verl, those of sft) inherit the variable, but are no tasks.
    if multiprocessing.parent_process() is None and _task() and (file := os.environ.get(EVENTS_VARIABLE)):
        handler = _Events(file)
        root.addHandler(handler)
        handler.append(event="started")
        sys.excepthook = functools.partial(_report_failure, handler)


class _Events(logging.FileHandler):
    """Appends records as JSON, one per line: task, step, level, message and progress."""

    def emit(self, record: logging.LogRecord) -> None:
        """Append `record`."""
        step = record.name.removeprefix("recllm.")
        counts = {name: vars(record)[name] for name in ("done", "total") if name in vars(record)}
        self.append(event="log", step=step, level=record.levelname, message=record.getMessage(), **counts)

    def append(self, **event: Any) -> None:
        """Append one event in a single write, so that processes do not mix their lines."""
        self.stream = self.stream or self._open()
        self.stream.write(json.dumps({"task": _task(), **event}) + "\n")
        self.flush()


def _task() -> str:
    """Return the DAG's name for the KFP task of this process; "" outside KFP."""
    flag = "--function_to_execute"
    name = sys.argv[sys.argv.index(flag) + 1] if flag in sys.argv[:-1] else ""
    return name.replace("_", "-")


def _report_failure(
    handler: _Events, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    handler.append(event="failed", message=causes.of_exception(error))
    sys.__excepthook__(kind, error, trace)

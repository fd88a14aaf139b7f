"""What a local run shows: progress of the steps, read from their events (see components/shared/logs.py)."""

import contextlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import rich.console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from components.shared import causes

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_POLL_SECONDS = 0.2
_CAUSE_LINES = 3


class Console:
    """Shows a run's events while it lasts: bars at a terminal, plain lines elsewhere.

    Use it as a context manager. `verbose` shows every line of the log in place of the events.
    """

    def __init__(self, folder: Path, screen: TextIO | None = None, verbose: bool = False) -> None:
        self.events = folder / "events.jsonl"
        """The file that steps append their events to."""
        self.log = folder / "run.log"
        """The file that takes all output of the run."""
        self._failure: tuple[str, str] | None = None
        self._begun: dict[str, float] = {}
        self._verbose = verbose
        self._started = time.monotonic()
        self._screen = rich.console.Console(
            file=screen or sys.stdout, soft_wrap=True, highlight=False, markup=False, emoji=False
        )
        # At a terminal, one bar shows the progress of the running step until all is done.
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=self._screen,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self._screen.is_terminal,
        )
        self._bars.add_task("", visible=False, detail="")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Console":
        self._bars.start()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._read_to_the_end()
        self._bars.stop()

    def _read_to_the_end(self) -> None:
        self._ended.set()
        self._thread.join()

    def say(self, text: str, style: str = "") -> None:
        """Show one line with the seconds since the start."""
        self._screen.print(f"[{time.monotonic() - self._started:4.0f} s] {text}", style=style)

    def step_seconds(self) -> dict[str, float]:
        """Return the seconds from each step's first event to the next step's, or to now."""
        self._read_to_the_end()
        times = [*self._begun.values(), time.monotonic()]
        return {step: end - begun for (step, begun), end in zip(self._begun.items(), times[1:], strict=True)}

    def failure(self, error: str) -> tuple[str, str]:
        """Return the step that failed first and why.

        The cause is the step's own message; without one the exception that its log ends with (a failed
        import), or the log's last lines (a killed step). `error` is kfp's message, which names the step.
        """
        self._read_to_the_end()  # a failing step's event is its last, and KFP returns right after it
        if self._failure:
            return self._failure
        step = _ANSI.sub("", error).partition("Inner task failed: '")[2].partition("'")[0]
        log = _ANSI.sub("", self.log.read_text(encoding="utf-8"))
        *printed, _ = log.partition(f"Task '{step}' finished with status FAILURE")[0].splitlines() or [""]
        lines = [line.strip() for line in printed if line.strip()]
        return step, causes.within(printed) or "\n".join(lines[-_CAUSE_LINES:]) or error

    def _follow(self) -> None:
        events, log = _new_lines(self.events), _new_lines(self.log)
        while True:
            ended = self._ended.wait(_POLL_SECONDS)
            for line in next(events):
                with contextlib.suppress(json.JSONDecodeError):  # two processes wrote at the same moment
                    self._take(json.loads(line))
            if self._verbose:
                for line in next(log):
                    self.say(_ANSI.sub("", line))
            if ended:
                return

    def _take(self, event: dict[str, Any]) -> None:
        (bar,) = self._bars.tasks
        if event["event"] == "started":
            self._begun.setdefault(event["task"], time.monotonic())
            self._bars.update(bar.id, visible=False)
        elif event["event"] == "failed":
            self._failure = self._failure or (event["task"], event["message"])
        elif not self._verbose:
            if "done" in event and self._screen.is_terminal:
                self._draw_bar(**event)
            if not bar.visible or "done" not in event:
                self.say(f"{event['step']}: {event['message']}", "" if event["level"] == "INFO" else "yellow")

    def _draw_bar(self, step: str, message: str, done: int, total: int, **_: Any) -> None:
        (bar,) = self._bars.tasks
        if bar.description != step or done < bar.completed:  # another loop
            self._bars.reset(bar.id, description=step, total=total)
        detail = message.removeprefix(f"{done}/{total}")
        self._bars.update(bar.id, completed=done, detail=detail, visible=done < total)


def _new_lines(path: Path) -> Iterator[list[str]]:
    """Yield, each time, the whole lines that were appended to `path` since the last time."""
    path.touch()
    rest = b""
    with path.open("rb") as file:
        while True:
            *lines, rest = (rest + file.read()).split(b"\n")
            yield [line.decode("utf-8", errors="replace") for line in lines]

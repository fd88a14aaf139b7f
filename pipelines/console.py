"""What a person sees of a local run: the steps' own progress lines; everything else goes to a log."""

import io
import re
import time
from pathlib import Path
from typing import TextIO

# kfp.local indents what a step prints; our steps begin every line with their own name.
_PROGRESS = re.compile(r"^\s{4}(?P<step>[a-z][a-z_ ]{2,20}): (?P<text>(?![A-Z]\w+\( name=).*)$")
_STARTING = re.compile(r"Executing task .*?'(?P<step>[a-z-]+)'")
_FAILED = re.compile(r"Task '[a-z-]+' finished with status FAILURE")
_CAUSE = re.compile(r"^\s*components\.shared\.errors\.\w+: (?P<message>.*)$")
_END_OF_CAUSE = re.compile(r"^\d\d:\d\d:\d\d\.\d+ - |^\s*$|^\s*\[KFP Executor ")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_TAIL = 30


class Console(io.TextIOBase):
    """A stand-in for standard output that logs everything to `log` and shows progress on `screen`."""

    def __init__(self, screen: TextIO, log: Path, verbose: bool = False) -> None:
        self._screen, self._verbose = screen, verbose
        self._log = log.open("a", encoding="utf-8")
        self._started = time.monotonic()
        self._pending = ""
        self.steps: list[str] = []
        """The steps that were run, in their order; a step whose outputs were used again is not among them."""
        self._failure: tuple[str, str] | None = None
        self._lines: list[str] = []

    def writable(self) -> bool:
        """Return True: this is a stream to write to."""
        return True

    def write(self, text: str) -> int:
        """Log `text` and show the lines of it that are progress."""
        self._log.write(text)
        self._log.flush()
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            self._line(_ANSI.sub("", line))
        return len(text)

    def close(self) -> None:
        """Close the log, not the screen."""
        self._log.close()
        super().close()

    def _line(self, line: str) -> None:
        self._lines = [*self._lines[-400:], line]
        if match := _STARTING.search(line):
            self.steps.append(match["step"])
            self._lines.clear()
        elif _FAILED.search(line):
            self._failure = self._failure or (self.steps[-1], self._cause())
        elif self._verbose:
            self.say(line)
        elif match := _PROGRESS.match(line):
            self.say(f"{match['step']}: {match['text']}")

    def say(self, text: str) -> None:
        """Show one line with the seconds since the start."""
        self._screen.write(f"[{time.monotonic() - self._started:4.0f} s] {text}\n")
        self._screen.flush()

    def failure(self) -> tuple[str, str]:
        """Return the name of the step that failed first and why: its error, or its last lines."""
        return self._failure or (self.steps[-1] if self.steps else "", self._cause())

    def _cause(self) -> str:
        for i in range(len(self._lines) - 1, -1, -1):
            if match := _CAUSE.match(self._lines[i]):
                rest = []
                for line in self._lines[i + 1 :]:
                    if _END_OF_CAUSE.match(line):
                        break
                    rest.append(line.removeprefix("    "))
                return "\n".join([match["message"], *rest])
        return "\n".join(line for line in self._lines[-_TAIL:] if line.strip())

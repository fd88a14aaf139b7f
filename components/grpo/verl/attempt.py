"""What one run of verl writes: its log, its output, and its answers with the terms of their reward."""

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.errors import TrainingError

FIGURES = {
    "actor/loss": "loss",
    "actor/kl_loss": "kl",
    "actor/entropy": "entropy",
    "actor/grad_norm": "grad_norm",
    "response_length/mean": "answer_tokens",
    "timing_s/step": "seconds",
}
"""Our names of verl's figures, as of verl 0.9."""

_SECONDS_TO_WRITE = 60

Entry = Mapping[str, Any]
"""A line of verl's log: {"step": int, "data": {name: value}}."""

Answers = list[dict[str, Any]]
"""Lines of a dump: "output", "uid" ({prompt}_{sample}_{turn}) and "gts", the index of the row."""


class Attempt:
    """The folder of one run of verl, so that an earlier run's lines are never taken for its."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log.jsonl"  # figures, one line per step
        self.output = folder / "verl.log"  # what verl prints
        self.rollouts = folder / "rollouts"  # N.jsonl: the sampled answers of step N
        self.validations = folder / "validations"  # N.jsonl: the greedy answers after step N
        self.terms = folder / "terms"  # the reward's terms of each answer, one file per process
        self.train, self.valid = folder / "train.parquet", folder / "valid.parquet"  # what verl reads
        self.agent_loops = folder / "agent_loops.json"  # registers our agent loop with verl

    @classmethod
    def start(cls, folder: Path) -> "Attempt":
        """Return an attempt with fresh folders in `folder`."""
        attempt = cls(Path(tempfile.mkdtemp(prefix="attempt-", dir=folder)))
        for created in (attempt.rollouts, attempt.validations, attempt.terms):
            created.mkdir()
        return attempt


@dataclass(frozen=True)
class Dump:
    """A JSON lines file of answers that verl writes in a thread, and how many lines it will have."""

    path: Path
    lines: int

    def read(self) -> Answers:
        """Return the answers; none while some are missing."""
        found = list(whole_lines(self.path, 0))
        return [json.loads(line) for line in found] if len(found) == self.lines else []

    def wait(self, alive: Callable[[], bool]) -> Answers:
        """Return the answers once all are written.

        Raises:
            LookupError: they are not, and verl is not `alive`. TrainingError: they stay unwritten.
        """
        for _ in range(_SECONDS_TO_WRITE):
            was_alive = alive()  # before the look: what verl wrote to its end is seen
            if answers := self.read():
                return answers
            if not was_alive:
                raise LookupError(f"{self.path}: not all of {self.lines} answers")
            time.sleep(1)
        raise TrainingError(
            f"{self.path}: verl did not write {self.lines} answers; did a session of verl fail?"
        )


def whole_lines(path: Path, start: int) -> Iterator[bytes]:
    """Yield the lines from byte `start` that are complete; none if there is no file yet."""
    if path.is_file():
        with path.open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield line


def named_figures(entry: Entry) -> dict[str, float]:
    """Return the figures of a line under our names; nan for what is not finite, which verl writes as null."""
    figures = {FIGURES[name]: value for name, value in entry["data"].items() if name in FIGURES}
    return {name: math.nan if value is None else value for name, value in figures.items()}

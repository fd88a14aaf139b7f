"""What one run of verl writes: its log, its output, and its answers with the terms of their reward."""

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.shared.errors import TrainingError

_SECONDS_TO_WRITE = 60


class Attempt:
    """The folder of one verl run, so it never reads an earlier run's lines."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log.jsonl"  # lines {"step": int, "data": {name: figure}}
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


def read_answers(path: Path, count: int, alive: Callable[[], bool]) -> list[dict[str, Any]]:
    """Return the `count` answers in `path`, once verl's thread has written them all.

    They have "output", "uid" ({prompt}_{sample}_{turn}) and "gts", the index of the row. Raises LookupError:
    some are missing and verl is not `alive`.
    """
    for _ in range(_SECONDS_TO_WRITE):
        was_alive = alive()  # before the look: what verl wrote to its end is seen
        lines = list(whole_lines(path, 0))
        if len(lines) == count:
            return [json.loads(line) for line in lines]
        if not was_alive:
            raise LookupError(f"{path}: not all of {count} answers")
        time.sleep(1)
    raise TrainingError(f"{path}: verl did not write {count} answers; did a session of verl fail?")


def whole_lines(path: Path, start: int) -> Iterator[bytes]:
    """Yield the complete lines from byte `start`; none if there is no file yet."""
    if path.is_file():
        with path.open("rb") as file:
            file.seek(start)
            yield from itertools.takewhile(lambda line: line.endswith(b"\n"), file)

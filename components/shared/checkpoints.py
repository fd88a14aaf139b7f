"""A stable place for the checkpoints of a training step, so that a killed step goes on where it was."""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.shared import fingerprint
from components.shared.config import to_json
from components.shared.errors import TrainingError


@contextlib.contextmanager
def place(root: str, step: str, config: Any, *inputs: Path) -> Iterator[Path]:
    """Yield the checkpoint folder of this very training: same configuration, same input contents.

    `root` "" gives a temporary folder. The folder is removed when the block ends without an error, because
    the step's outputs then stand; after an error or a kill it stays for the next try.

    Raises:
        TrainingError: another process is at this very training.
    """
    if not root:
        with tempfile.TemporaryDirectory(prefix=f"recllm-{step}-") as folder:
            yield Path(folder)
        return
    key = fingerprint.of_text(to_json(config), *(fingerprint.of_folder(folder) for folder in inputs))
    folder_of_run = Path(root) / f"{step}-{key}"
    folder_of_run.mkdir(parents=True, exist_ok=True)
    with _alone(folder_of_run.with_suffix(".lock")):
        yield folder_of_run
        shutil.rmtree(folder_of_run, ignore_errors=True)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold `lock`; the system lets it go when the process ends, however it ends."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(
                f"{lock.with_suffix('')}: another process is at this very training; wait for it or stop it"
            ) from error
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def latest_of_trainer(folder: Path) -> str | None:
    """Return the newest whole checkpoint that transformers' Trainer left in `folder`, or None.

    Trainer writes `trainer_state.json` last; a folder without it was cut off and is removed.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in reversed(found):
        if (path / "trainer_state.json").is_file():
            return str(path)
        shutil.rmtree(path)
    return None

"""A stable place for the checkpoints of a training step, so that a killed step goes on where it was."""

import contextlib
import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.shared import fingerprint
from components.shared.config import to_json
from components.shared.errors import TrainingError
from components.shared.outputs import clear_leftovers


@contextlib.contextmanager
def place(root: str, step: str, config: Any, *inputs: Path, also: str = "") -> Iterator[Path]:
    """Yield the checkpoint folder of this very training: same configuration, input contents and text `also`.

    `root` "" gives a temporary folder. The folder is removed when the block ends without an error, because
    the step's outputs then stand; after an error or a kill it stays for the next try.

    Raises:
        TrainingError: another process is at this very training.
    """
    if not root:
        with tempfile.TemporaryDirectory(prefix=f"recllm-{step}-") as folder:
            yield Path(folder)
        return
    key = fingerprint.of_text(to_json(config), also, *(fingerprint.of_folder(folder) for folder in inputs))
    folder_of_run = Path(root) / f"{step}-{key}"
    gone = folder_of_run.with_suffix(".gone")
    Path(root).mkdir(parents=True, exist_ok=True)
    with _alone(folder_of_run.with_suffix(".lock")):
        shutil.rmtree(gone, ignore_errors=True)
        folder_of_run.mkdir(exist_ok=True)
        clear_leftovers(folder_of_run)
        yield folder_of_run
        folder_of_run.rename(gone)  # so that a kill amid the removal leaves no half to go on from
        shutil.rmtree(gone, ignore_errors=True)


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

    All others are removed: a newer one was cut off while it was written, an older one while it was removed.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    newest = next((path for path in reversed(found) if _is_whole(path)), None)
    for path in found:
        if path != newest:
            shutil.rmtree(path)
    return str(newest) if newest else None


def _is_whole(checkpoint: Path) -> bool:
    """Say whether `trainer_state.json` is there to its end: Trainer writes it last, but not at once."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return True

"""A stable place for the checkpoints of a training step, so that a killed step goes on where it was."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from components.shared.artifacts import fingerprint
from components.shared.artifacts.outputs import clear_leftovers
from components.shared.config import to_json
from components.shared.errors import ConfigError, TrainingError

ROOT = Path(__file__).resolve().parents[3]

_TRAINERS = re.compile(r"checkpoint-[0-9]+")
_STATES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


@contextlib.contextmanager
def directory(root: str, step: str, config: Any, *inputs: Path, also: str = "") -> Iterator[Path]:
    """Yield the checkpoint folder of this very training: same code, configuration, inputs and text `also`.

    `root` "" gives a temporary folder. The folder is removed when the block ends without an error, because
    the step's outputs then stand; after an error or a kill it stays for the next try.

    Raises:
        ConfigError: `root` is no folder, or cannot be written to or locked.
        TrainingError: another process is at this very training.
    """
    if "://" in root:
        raise ConfigError(f"checkpoints {root}: must be a folder, on a cluster a mounted volume")
    if not root:
        with tempfile.TemporaryDirectory(prefix=f"recllm-{step}-") as folder:
            yield Path(folder)
        return
    contents = [fingerprint.of_folder(folder) for folder in inputs]
    key = fingerprint.of_text(to_json(config), also, _code(step), *contents)
    folder_of_run = Path(root) / f"{step}-{key}"
    gone = folder_of_run.with_suffix(".gone")
    with _alone(folder_of_run.with_suffix(".lock")):
        shutil.rmtree(gone, ignore_errors=True)
        folder_of_run.mkdir(exist_ok=True)
        clear_leftovers(folder_of_run)
        yield folder_of_run
        folder_of_run.rename(gone)  # so that a kill amid the removal leaves no half to go on from
        shutil.rmtree(gone, ignore_errors=True)


def _code(step: str) -> str:
    """Return the fingerprint of the code that `step` can reach: a training goes on only with its own."""
    parts = (f"components/{step}", "components/shared", "data_contracts")
    return fingerprint.of_files([file for part in parts for file in (ROOT / part).rglob("*.py")], ROOT)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold `lock`; the system lets it go when the process ends, however it ends."""
    with _locked(lock):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _locked(lock: Path) -> IO[str]:
    """Return the file `lock`, open and locked."""
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("w")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(
                f"{lock.with_suffix('')}: another process is at this very training; wait for it or stop it"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"checkpoints {lock.parent}: must be a folder that can be written to and locked ({error})"
            ) from error
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # its holder has just ended, and removed it after we had opened it


def latest_trainer_checkpoint(folder: Path) -> str | None:
    """Return the newest whole checkpoint that transformers' Trainer left in `folder`, or None.

    All others are removed: a newer one was cut off while it was written, an older one while it was removed.
    Those that are damaged are told.
    """
    found = [path for path in folder.iterdir() if path.is_dir() and _TRAINERS.fullmatch(path.name)]
    found.sort(key=lambda path: int(path.name.split("-")[1]))
    whole = [path for path in found if _is_whole(path)]
    newest = whole[-1] if whole else None
    for path in found:
        if path not in whole:
            print(f"{path}: not whole, removed", flush=True)
        if path != newest:
            shutil.rmtree(path)
    return str(newest) if newest else None


def _is_whole(checkpoint: Path) -> bool:
    """Say whether what a resumed Trainer reads is there to its end; `trainer_state.json` is written last."""
    from safetensors import SafetensorError, safe_open

    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
        weights = list(checkpoint.glob("*.safetensors"))
        for file in weights:
            with safe_open(file, "pt"):  # reads the header, which must agree with the file's length
                pass
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return False
    # torch writes a zip archive, whose directory lies at its end.
    return bool(weights) and all(zipfile.is_zipfile(checkpoint / name) for name in _STATES)

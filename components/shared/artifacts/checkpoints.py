"""Checkpoint directories of training steps, from which a killed step resumes.

They lie in a folder that outlives the step (on a cluster a mounted volume), or in object storage (an s3:// or
minio:// URI; `checkpoint_store` says how).
"""

import contextlib
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import Timeout

from components.shared.artifacts import checkpoint_store, fingerprint
from components.shared.artifacts.outputs import clean_folder, exclusive
from components.shared.artifacts.storage import is_remote
from components.shared.config import to_json
from components.shared.errors import ConfigError, TrainingError
from components.shared.logs import logger

log = logger("checkpoints")


@contextlib.contextmanager
def directory(root: str, step: str, config: Any, *inputs: Path, also: str = "") -> Iterator[Path]:
    """Yield the checkpoint directory for this code, configuration, inputs and text `also`.

    `root` "" gives a temporary folder, a URI a copy of what is stored there. The directory is removed when
    the block succeeds, because the step's outputs are then written; after an error or a kill it stays for
    the next attempt.

    Raises: ConfigError if `root` cannot be written to or locked, TrainingError if another process uses it,
    DataError if the object storage refuses.
    """
    if "://" in root and not is_remote(root):
        raise ConfigError(f"checkpoints {root}: must be a folder, or an s3:// or minio:// URI")
    if not root:
        with tempfile.TemporaryDirectory(prefix=f"recllm-{step}-") as folder:
            yield Path(folder)
        return
    contents = [fingerprint.of_folder(folder) for folder in inputs]
    key = fingerprint.of_text(to_json(config), also, fingerprint.of_step(step), *contents)
    if is_remote(root):
        with checkpoint_store.opened(f"{root.rstrip('/')}/{step}-{key}") as folder_copy:
            yield folder_copy
        return
    checkpoint_dir = Path(root) / f"{step}-{key}"
    finished = checkpoint_dir.with_suffix(".finished")
    with contextlib.ExitStack() as stack:
        try:
            checkpoint_dir.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(exclusive(checkpoint_dir.with_suffix(".lock"), wait=False))
        except Timeout as error:
            raise TrainingError(
                f"{checkpoint_dir}: another process runs this training; wait for it or stop it"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"checkpoints {root}: must be a folder that can be written to and locked ({error})"
            ) from error
        shutil.rmtree(finished, ignore_errors=True)
        checkpoint_dir.mkdir(exist_ok=True)
        clean_folder(checkpoint_dir)
        yield checkpoint_dir
        checkpoint_dir.rename(finished)  # a kill during the removal must not leave half a checkpoint
        shutil.rmtree(finished, ignore_errors=True)


def latest_trainer_checkpoint(checkpoint_dir: Path) -> str | None:
    """Return the newest intact checkpoint of transformers' Trainer, or None; the others are removed."""
    found = [
        path
        for path in checkpoint_dir.iterdir()
        if path.is_dir() and re.fullmatch(r"checkpoint-[0-9]+", path.name)
    ]
    found.sort(key=lambda path: int(path.name.split("-")[1]), reverse=True)
    newest: Path | None = None
    for path in found:
        if newest is None and _is_intact(path):
            newest = path
            continue
        if newest is None:  # a kill cut it off while it was written
            log.warning("%s is corrupt and is removed", path)
        shutil.rmtree(path)
    return str(newest) if newest else None


def _is_intact(checkpoint: Path) -> bool:
    """Return whether all that a resumed Trainer reads is complete; `trainer_state.json` is written last."""
    from safetensors import SafetensorError, safe_open

    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
        weights = list(checkpoint.glob("*.safetensors"))
        for file in weights:
            with safe_open(file, "pt"):  # reads the header, which must agree with the file's length
                pass
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return False
    # torch writes zip archives, whose directory is at their end.
    states = ("optimizer.pt", "scheduler.pt", "rng_state.pth")
    return bool(weights) and all(zipfile.is_zipfile(checkpoint / name) for name in states)

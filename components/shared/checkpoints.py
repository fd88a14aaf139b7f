"""A stable place for the checkpoints of a training step, so that a killed step goes on where it was."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.shared import fingerprint
from components.shared.config import to_json


@contextlib.contextmanager
def place(root: str, step: str, config: Any, *inputs: Path) -> Iterator[Path]:
    """Yield the checkpoint folder of this very training: same configuration, same input contents.

    `root` "" gives a temporary folder. The folder is removed when the block ends without an error, because
    the step's output then stands; after an error or a kill it stays for the next try.
    """
    if not root:
        with tempfile.TemporaryDirectory(prefix=f"recllm-{step}-") as folder:
            yield Path(folder)
        return
    key = fingerprint.of_text(to_json(config), *(fingerprint.of_folder(folder) for folder in inputs))
    folder_of_run = Path(root) / f"{step}-{key}"
    folder_of_run.mkdir(parents=True, exist_ok=True)
    yield folder_of_run
    shutil.rmtree(folder_of_run, ignore_errors=True)


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

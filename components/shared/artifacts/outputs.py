"""Outputs that appear whole or not at all: written beside their path, then renamed.

Only replacing an existing folder takes two renames, between which the path is missing; see `atomic_folder`.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from components.shared.errors import full_disk_named
from components.shared.logs import logger

log = logger("outputs")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a fresh folder beside `path` that replaces `path` when the block succeeds.

    A killed or failed block leaves `path` as it was. Another process that writes `path` is waited for.
    An existing folder is renamed away first: for a moment there is no `path`. After a kill in that moment
    the next write restores the older folder. Files get the permissions of new files, however they were made.
    Raises OutputError: a disk is full.
    """
    with _replacing(Path(path)) as partial:
        partial.mkdir()
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():  # safetensors makes files that only their owner may read
                file.chmod(partial.stat().st_mode & 0o666)
        if path.exists():  # a rename does not replace a folder that has contents
            os.replace(path, _beside(path, "old"))


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a name beside `path`; the file written there replaces `path` when the block succeeds.

    A killed or failed block leaves `path` as it was. Another process that writes `path` is waited for.
    Raises OutputError: a disk is full.
    """
    with _replacing(Path(path)) as partial:
        yield partial


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    partial = _beside(path, "partial")
    with full_disk_named(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(_beside(path, "lock"), wait=True):
            _clean(path)  # after a kill
            try:
                yield partial
                os.replace(partial, path)
            finally:
                _clean(path)


@contextmanager
def exclusive(lock: Path, *, wait: bool) -> Iterator[None]:
    """Hold the file `lock`, which is removed at the end. Raises filelock.Timeout unless `wait`."""
    held = FileLock(lock, timeout=0.5)  # not 0: its holder may be about to remove it
    try:
        held.acquire()
    except Timeout:
        if not wait:
            raise
        log.info("another process holds %s; waiting for it", lock)
        held.acquire(timeout=-1)
    try:
        yield
    finally:
        # filelock leaves the file. Removing it while it is held is safe: whoever then locks the removed file
        # sees that it has no name any more, and opens a new one.
        lock.unlink(missing_ok=True)
        held.release()


def clean_folder(folder: Path) -> None:
    """Remove what killed processes left unfinished in `folder`, which this process alone writes to."""
    for left in list(folder.glob(".*")):
        name, _, kind = left.name.removeprefix(".").rpartition(".")
        if kind in ("partial", "old"):
            _clean(folder / name)
        elif kind == "lock":
            left.unlink()


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}")


def _clean(path: Path) -> None:
    """Remove what an unfinished write left beside `path`; restore the older output if moved."""
    _remove(_beside(path, "partial"))
    old = _beside(path, "old")
    if old.exists() and not path.exists():
        os.replace(old, path)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically, creating parent folders."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def paths(**artifacts: Any) -> dict[str, Path]:
    """Return the paths of KFP artifacts on this machine, by the artifacts' names."""
    return {name: Path(artifact.path) for name, artifact in artifacts.items()}


def log_metrics(artifact: Any, figures: Mapping[str, float]) -> None:
    """Log `figures` to the KFP artifact of type Metrics, and write them to its file."""
    for name, value in figures.items():
        artifact.log_metric(name, value)
    write_json(Path(artifact.path), dict(figures))  # without a file there, KFP's local cache never hits

"""Outputs that appear whole or not at all: written beside their place, then renamed into it."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.shared.errors import OutputError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_BY_TEXT = ("mlflow", "safetensors")  # their errors keep the reason in the text alone
_LEFTOVER = re.compile(r"\.(?P<output>.+)\.(?P<owner>\d+)\.(?P<kind>partial|old)")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a fresh folder beside `path` that replaces `path` when the block ends without an error.

    A killed or failed block leaves `path` as it was. What it left beside it is removed by the next try; an
    older output that a kill caught between the two renames is put back by it. Raises OutputError: a disk is
    full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    partial = _beside(path, "partial")
    with _cleared(partial, path):
        partial.mkdir()
        yield partial
    if path.exists():
        old = _beside(path, "old")
        os.replace(path, old)
        os.replace(partial, path)
        _remove(old)
    else:
        os.replace(partial, path)


@contextmanager
def _cleared(partial: Path, path: Path) -> Iterator[None]:
    """Remove `partial` where the block fails, and say what a full disk kept `path` from."""
    try:
        yield
    except BaseException as error:
        _remove(partial)
        if is_full_disk(error):
            raise OutputError(f"{path} is not written: a disk is full ({error})") from error
        raise


def is_full_disk(error: BaseException) -> bool:
    """Say whether `error` tells of a full disk or a used-up quota."""
    if type(error).__module__.partition(".")[0] in _BY_TEXT:
        return any(os.strerror(number) in str(error) for number in _FULL)
    return isinstance(error, OSError) and error.errno in _FULL


def _beside(path: Path, kind: str) -> Path:
    """Return this process's own name beside `path`, so that two processes never write into one folder."""
    return path.with_name(f".{path.name}.{os.getpid()}.{kind}")


def clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written in `folder`, or put an older output back.

    For a folder that this process alone writes into: elsewhere the owners may still be running.
    """
    for left, told in _leftovers(folder):
        _settle(left, told["kind"], folder / told["output"])


def _remove_leftovers(path: Path) -> None:
    """Remove what this process or processes that no longer run left beside `path`, or put it back."""
    for left, told in _leftovers(path.parent):
        if told["output"] == path.name and not _runs_elsewhere(int(told["owner"])):
            _settle(left, told["kind"], path)


def _leftovers(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    matches = [(path, _LEFTOVER.fullmatch(path.name)) for path in folder.glob(".*")]
    return [(path, match) for path, match in matches if match]


def _settle(left: Path, kind: str, path: Path) -> None:
    if kind == "old" and not path.exists():
        os.replace(left, path)
    else:
        _remove(left)


def _runs_elsewhere(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, under another user
        pass
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a name beside `path`; the file written there replaces it when the block ends without an error.

    What a kill leaves beside it is removed by the next try. Raises OutputError: a disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    partial = _beside(path, "partial")
    with _cleared(partial, path):
        yield partial
        os.replace(partial, path)


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically, creating parent folders."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")

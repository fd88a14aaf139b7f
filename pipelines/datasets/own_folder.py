"""Folders of tables that the project writes: nothing else is ever replaced."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.shared.artifacts.outputs import atomic_folder
from components.shared.artifacts.storage import Folder, is_remote, remove_files, scratch_folder, upload
from components.shared.errors import DataError
from data_contracts import tables

MARKER = ".recllm"
"""The file by which such a folder is known."""
RAW = re.compile(rf"({'|'.join(tables.RAW)})\.parquet")
RECOMMENDED = re.compile(r"part-\d+\.parquet")
"""Names of files: of raw tables, and of parts of recommendations. Neither replaces the other."""
_MARKED = "Written by `recllm sample`, `import` or `recommend`, which may replace this folder.\n"


def check_replaceable(out: str, own: re.Pattern[str] = RAW) -> str:
    """Return `out`, a folder or s3:// URI.

    Raises DataError: it cannot be made, or holds files that are not `own`.
    """
    if not out.strip():  # an unset variable; the current folder is "."
        raise DataError("--out is empty; name a folder or an s3:// URI")
    if not is_remote(out):  # before hours of work, not after
        _check_place(Path(out))
    names = _names(out)
    foreign = {name for name in names if MARKER not in names or not (name == MARKER or own.fullmatch(name))}
    if foreign:
        raise DataError(
            f"{out}: holds {', '.join(sorted(foreign)[:3])}, which would be lost; name a new folder, an "
            "empty one, or one that the same command wrote"
        )
    return out


def _check_place(folder: Path) -> None:
    """Raise DataError unless the folder can be made or replaced."""
    place = next(place for place in (folder.resolve(), *folder.resolve().parents) if place.exists())
    parent = folder.resolve().parent if place == folder.resolve() else place
    if not place.is_dir():
        raise DataError(f"{folder}: cannot be made: {place} is a file; name another folder")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error}); name another folder") from error


@contextmanager
def own_folder(out: str | Path, own: re.Pattern[str] = RAW) -> Iterator[Path]:
    """Yield a local folder whose files replace those of `out` when the block succeeds.

    `out` is a folder, replaced whole or not at all, or an s3:// URI, written file by file.
    Raises: DataError as `check_replaceable`, or the store refuses; OutputError: a disk is full.
    """
    out = check_replaceable(str(out), own)
    if not is_remote(out):
        target = Path(out).resolve()  # what a link leads to, not the link, is replaced
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{out}: cannot be made ({error}); name another folder") from error
        with atomic_folder(target) as folder:
            yield folder
            (folder / MARKER).write_text(_MARKED, encoding="utf-8")
        return
    folder = scratch_folder()
    yield folder
    (folder / MARKER).write_text(_MARKED, encoding="utf-8")
    # The marker goes first: after a kill, the same command may go on.
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        upload(folder / name, f"{out.rstrip('/')}/{name}")
    remove_files(out, _names(out) - set(names))


def _names(out: str) -> set[str]:
    return {entry.base_name for entry in Folder.at(out).entries(may_be_missing=True)}

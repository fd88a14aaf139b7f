"""Checkpoint directories that outlive their machine: a scratch folder with a copy in object storage.

`push` copies the folder as a snapshot: each new file as an object of its own, and last a marker that names
all of the snapshot's objects. Without its marker a snapshot does not count, so a killed push changes nothing;
the snapshot before it is removed after the marker is written.

    <uri>/<push>.<n>     a file; <push> is the time and a random suffix
    <uri>/<push>.json    the marker: each file's object

Two machines that run the same training never share objects, and the newest whole snapshot counts: any of
them is a state of that training.
"""

import contextlib
import json
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.shared.artifacts.storage import Folder, fetch, remove, remove_files, upload
from components.shared.logs import logger

log = logger("checkpoints")

_PUSHED = ".pushed.json"
"""File in the scratch folder, for all processes of the step: its URI and what is there."""


@contextlib.contextmanager
def opened(uri: str) -> Iterator[Path]:
    """Yield a scratch folder with the newest snapshot at `uri`, which success removes.

    Raises: DataError if the store cannot be read and written.
    """
    with tempfile.TemporaryDirectory(prefix="recllm-checkpoints-") as scratch:
        folder, probe = Path(scratch) / uri.rpartition("/")[2], Path(scratch) / "probe"
        folder.mkdir()
        probe.touch()
        upload(probe, f"{uri}/probe")  # a missing bucket or right is reported before the training
        _pull(uri, folder)
        yield folder
    remove(uri)


def _pull(uri: str, folder: Path) -> None:
    """Fill `folder` with the newest whole snapshot; remove all else at `uri`."""
    found = {Path(entry.path).name for entry in Folder.at(uri).files()}
    marker, objects = _newest_snapshot(uri, found, folder)
    for inner, name in objects.items():
        (folder / inner).parent.mkdir(parents=True, exist_ok=True)
        fetch(f"{uri}/{name}", folder / inner)
    if objects:
        log.info("%d files from %s", len(objects), uri)
    # Without size and time nothing counts as unchanged: the machine that wrote these may yet remove them.
    _note(folder, uri=uri, marker=marker, files={inner: [name] for inner, name in objects.items()})
    remove_files(uri, found - {marker, *objects.values()})


def _newest_snapshot(uri: str, found: set[str], folder: Path) -> tuple[str, dict[str, str]]:
    for marker in sorted((name for name in found if name.endswith(".json")), reverse=True):
        fetch(f"{uri}/{marker}", folder / _PUSHED)
        objects = json.loads((folder / _PUSHED).read_text(encoding="utf-8"))
        if found.issuperset(objects.values()):
            return marker, objects
    return "", {}


def push(folder: Path, skip: str = "") -> None:
    """Copy what is new in `folder` to its store; do nothing if it has none.

    Left out are hidden files, such as unfinished ones, and what matches the pattern `skip`: the only files
    that may change meanwhile. Raises: DataError if the store refuses.
    """
    if not (folder / _PUSHED).is_file():
        return
    before = json.loads((folder / _PUSHED).read_text(encoding="utf-8"))
    uri, push_id = before["uri"], f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
    files: dict[str, list[Any]] = {}  # by path: object, size, modification time
    for path in _files(folder, skip):
        inner, stat = path.relative_to(folder).as_posix(), path.stat()
        version = [stat.st_size, stat.st_mtime_ns]
        name, *pushed = before["files"].get(inner, [""])
        if pushed != version:
            name = f"{push_id}.{len(files)}"
            upload(path, f"{uri}/{name}")
        files[inner] = [name, *version]
    if files == before["files"]:
        return
    marker = f"{push_id}.json"
    objects = _objects(files)
    (folder / _PUSHED).write_text(json.dumps(objects), encoding="utf-8")
    upload(folder / _PUSHED, f"{uri}/{marker}")
    _note(folder, uri=uri, marker=marker, files=files)
    remove_files(uri, {before["marker"], *_objects(before["files"]).values()} - {"", *objects.values()})


def _files(folder: Path, skip: str) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or (skip and path.match(skip)):
            continue
        if path.is_dir():
            yield from _files(path, skip)
        else:
            yield path


def _objects(files: dict[str, list[Any]]) -> dict[str, str]:
    return {inner: file[0] for inner, file in files.items()}


def _note(folder: Path, **pushed: Any) -> None:
    (folder / _PUSHED).write_text(json.dumps(pushed), encoding="utf-8")

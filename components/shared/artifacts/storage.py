"""Folders on this machine and in object storage; credentials come from the environment.

`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL` and `AWS_REGION` work as they do for
boto3 and the AWS command line.
"""

import atexit
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.errors import DataError, is_full_disk

SCHEMES = ("s3://",)


def is_remote(uri: str) -> bool:
    """Return whether `uri` names object storage rather than a local path."""
    return uri.startswith(SCHEMES)


@dataclass(frozen=True)
class Folder:
    """A folder on this machine or below an s3:// URI: `root` is its path in pyarrow's filesystem `store`."""

    uri: str
    store: Any
    root: str

    @classmethod
    def at(cls, place: str | Path) -> "Folder":
        """Return the folder at `place`, which need not be there. Raises DataError if the store refuses."""
        from pyarrow import fs

        if not is_remote(str(place)):
            return cls(str(place), fs.LocalFileSystem(), str(Path(place).absolute()))
        uri = str(place).rstrip("/")
        try:
            store, root = fs.FileSystem.from_uri(uri)
        except (OSError, ValueError) as error:
            raise _refused(uri, error) from error
        return cls(uri, store, root)

    def entries(self) -> list[Any]:
        """Return name, size and modification time (pyarrow FileInfo) of what lies in the folder, by path.

        Raises:
            DataError: the folder is not there (in object storage: nothing is below it), or it is refused.
        """
        return self._listing(self.root, recursive=False)

    def files(self, name: str = "") -> list[Any]:
        """Return, as `entries` does, every file below the folder (or its folder `name`) at any depth.

        Links to folders are not followed: they may lead to the same files again.
        """
        root = f"{self.root}/{name}" if name else self.root
        if is_remote(self.uri) or not Path(root).is_dir():
            return [entry for entry in self._listing(root, recursive=True) if entry.is_file]
        paths = [f"{parent}/{file}" for parent, _, files in os.walk(root) for file in files]
        return [entry for entry in self.store.get_file_info(sorted(paths)) if entry.is_file]

    def _listing(self, root: str, recursive: bool) -> list[Any]:
        from pyarrow import fs

        try:
            found = self.store.get_file_info(fs.FileSelector(root, recursive=recursive))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(
                f"{self.uri}: no such folder; is the path right, and has what writes it finished?"
            ) from error
        except OSError as error:
            raise _refused(self.uri, error) from error
        return sorted(found, key=lambda entry: entry.path)

    def inner(self, path: str) -> str:
        """Return the path of a file of this folder, as `files` gives it, relative to the folder."""
        return path.removeprefix(self.root).lstrip("/")

    def shown(self, name: str) -> str:
        """Return where the file `name` of this folder lies, for people."""
        return f"{self.uri}/{name}"

    def spark(self, name: str = "") -> str:
        """Return the folder's (or its file's) path as Spark and Hadoop read it: s3a:// in object storage."""
        path = f"{self.root}/{name}" if name else self.root
        # Hadoop takes every path for a pattern.
        return ("s3a://" if is_remote(self.uri) else "") + re.sub(r"([\[\]{}*?\\])", r"\\\1", path)


def scratch_folder() -> Path:
    """Return a new folder on this machine that goes when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="recllm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def stamp(uri: str) -> list[str]:
    """Return name, size and modification time of every file below `uri`, in the order of names.

    Raises:
        DataError: nothing is there, or the store refuses; names the URI.
    """
    return [f"{file.path} {file.size} {file.mtime_ns}" for file in _files(uri)[1]]


def download(uri: str, folder: Path) -> None:
    """Copy every file below `uri` into `folder`, keeping names.

    Raises:
        DataError: nothing is there, or the store refuses; names the URI.
    """
    from pyarrow import fs

    source = _files(uri)[0]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fs.copy_files(source.root, str(folder), source_filesystem=source.store)
    except OSError as error:
        raise _refused(uri, error) from error


def upload(file: Path, uri: str) -> None:
    """Copy the local `file` to `uri`, where it appears whole. Raises DataError if the store refuses."""
    from pyarrow import fs

    folder = Folder.at(uri.rpartition("/")[0])
    name = uri.rpartition("/")[2]
    try:
        fs.copy_files(str(file), f"{folder.root}/{name}", destination_filesystem=folder.store)
    except OSError as error:
        raise _refused(uri, error, "written") from error


def remove(place: str | Path) -> None:
    """Remove the folder at `place` with all that is in it, if it is there."""
    folder = Folder.at(place)
    try:
        folder.store.delete_dir(folder.root)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refused(folder.uri, error, "removed") from error


def _files(uri: str) -> tuple[Folder, list[Any]]:
    folder = Folder.at(uri)
    files = folder.files()
    if not files:
        raise DataError(f"{uri}: no file there; is the prefix right?")
    return folder, files


def _refused(uri: str, error: Exception, done: str = "read") -> Exception:
    """Return the error to raise: a full disk stays what it is, whoever found it."""
    if is_full_disk(error):
        return error
    keys = "; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL" if is_remote(uri) else ""
    return DataError(f"{uri}: cannot be {done} ({error}){keys}")

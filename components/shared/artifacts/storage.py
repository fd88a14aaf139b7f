"""Folders on this machine and in object storage; credentials come from the environment.

`minio://`, with which a stock Kubeflow's pipeline root begins, names the same store as `s3://`.
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL` and `AWS_REGION` work as they do for
boto3 and the AWS command line.
"""

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.errors import DataError, UserError, is_full_disk


def is_remote(uri: str) -> bool:
    """Return whether `uri` names object storage rather than a local path."""
    return uri.startswith(("s3://", "minio://"))


@dataclass(frozen=True)
class Folder:
    """A local or remote folder; `root` is its path in pyarrow's filesystem `store`."""

    uri: str
    store: Any
    root: str

    @classmethod
    def at(cls, location: str | Path) -> "Folder":
        """Return the folder at `location`, which may be missing.

        Raises DataError: the store refuses, or the URI is none that is read.
        """
        from pyarrow import fs

        if str(location) != str(location).strip():
            raise DataError(f"{str(location)!r} begins or ends with a space or line break; leave it out")
        if not is_remote(str(location)):
            if "://" in str(location):
                raise DataError(f"{location}: must be a folder, or an s3:// or minio:// URI")
            return cls(str(location), fs.LocalFileSystem(), str(Path(location).absolute()))
        uri = str(location).rstrip("/")
        if "#" in uri:  # arrow would take what stands before it
            raise DataError(f"{uri}: a URI ends before '#'; percent-encode it as %23")
        with _readable_errors(uri):
            return cls(uri, *fs.FileSystem.from_uri(re.sub("^minio:", "s3:", uri)))

    def entries(self, *, may_be_missing: bool = False) -> list[Any]:
        """Return the entries of the folder (pyarrow's FileInfo) by path.

        Raises: DataError if the folder is missing (in object storage: empty), or the store refuses. With
        `may_be_missing` a missing folder has no entries.
        """
        return self._listing(self.root, recursive=False, may_be_missing=may_be_missing)

    def files(self, name: str = "") -> list[Any]:
        """Return every file below the folder (or its folder `name`) at any depth, like `entries`."""
        root = f"{self.root}/{name}" if name else self.root
        if is_remote(self.uri) or not Path(root).is_dir():
            return [entry for entry in self._listing(root, recursive=True) if entry.is_file]
        paths = []
        for parent, folders, files in os.walk(root):
            _check_links(Path(root), [Path(parent, name) for name in (*folders, *files)])
            paths += [f"{parent}/{file}" for file in files]
        return [entry for entry in self.store.get_file_info(sorted(paths)) if entry.is_file]

    def _listing(self, root: str, recursive: bool, may_be_missing: bool = False) -> list[Any]:
        from pyarrow import fs

        with _readable_errors(self.uri):
            try:
                selector = fs.FileSelector(root, allow_not_found=may_be_missing, recursive=recursive)
                found = self.store.get_file_info(selector)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise DataError(
                    f"{self.uri}: no such folder; is the path right, and has what writes it finished?"
                ) from error
        return sorted(found, key=lambda entry: entry.path)

    def has(self, name: str) -> bool:
        """Return whether there is a file or folder `name`, also an empty one."""
        with _readable_errors(self.uri):
            return bool(self.store.get_file_info(f"{self.root}/{name}").type)

    def inner(self, path: str) -> str:
        """Return the `path` of one of `files` relative to the folder."""
        return path.removeprefix(self.root).lstrip("/")

    def shown(self, name: str) -> str:
        """Return the address of the file `name` of this folder, for people."""
        return original(f"{self.uri}/{name}")

    def spark(self, name: str = "") -> str:
        """Return the path of the folder or its file `name` for Spark: s3a:// if remote."""
        path = f"{self.root}/{name}" if name else self.root
        # Hadoop reads every path as a pattern.
        return ("s3a://" if is_remote(self.uri) else "") + re.sub(r"([\[\]{}*?\\])", r"\\\1", path)


def _check_links(root: Path, paths: Iterable[Path]) -> None:
    """Raise DataError for a link to nothing, or to a folder outside `root`.

    Links to folders are not followed: they may lead to the same files again.
    """
    for path in paths:
        if not path.is_symlink():
            continue
        if not path.exists():
            raise DataError(f"{path}: a link to a file that is not there; remove it, or bring the file")
        if path.is_dir() and not path.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{path}: links to folders are not followed; bring {path.resolve()} itself")


_copies: dict[str, str] = {}  # where copies of remote folders lie -> their URIs


def original(path: str) -> str:
    """Return the remote address of a file in a copy that `download` made, else `path`."""
    copy = next((folder for folder in _copies if f"{path}/".startswith(f"{folder}/")), None)
    return path if copy is None else _copies[copy].rstrip("/") + path.removeprefix(copy)


def scratch_folder() -> Path:
    """Return a new local folder that is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="recllm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def stamp(uri: str) -> list[str]:
    """Return name, size and modification time of every file below `uri`. Raises as `download`."""
    return [f"{file.path} {file.size} {file.mtime_ns}" for file in _files(uri)[1]]


def download(uri: str, folder: Path) -> None:
    """Copy every file below `uri` into `folder`. Raises DataError without files or access."""
    from pyarrow import fs

    source = _files(uri)[0]
    folder.mkdir(parents=True, exist_ok=True)
    _copies[str(folder)] = uri
    with _readable_errors(uri):
        fs.copy_files(source.root, str(folder), source_filesystem=source.store)


def local_copy(location: str | Path) -> Path:
    """Return a local path as it is, or a scratch copy of a remote folder.

    The copy is removed when this process ends.

    Raises: DataError if there is no file at the URI, or the store refuses.
    """
    if not is_remote(str(location)):
        return Path(location)
    copy = scratch_folder()
    download(str(location), copy)
    return copy


def upload(file: Path, uri: str) -> None:
    """Copy the local `file` to `uri`, atomically. Raises DataError: the store refuses."""
    from pyarrow import fs

    parent, _, name = uri.rpartition("/")
    folder = Folder.at(parent)
    with _readable_errors(uri, "written"):
        fs.copy_files(str(file), f"{folder.root}/{name}", destination_filesystem=folder.store)


def fetch(uri: str, file: Path) -> None:
    """Copy the one file at `uri` to the local `file`. Raises DataError: the store refuses."""
    from pyarrow import fs

    parent, _, name = uri.rpartition("/")
    folder = Folder.at(parent)
    with _readable_errors(uri):
        fs.copy_files(f"{folder.root}/{name}", str(file), source_filesystem=folder.store)


def remove(location: str | Path) -> None:
    """Remove the folder at `location`, if it is there. Raises DataError: the store refuses."""
    folder = Folder.at(location)
    with _readable_errors(folder.uri, "removed"), suppress(FileNotFoundError):
        folder.store.delete_dir(folder.root)


def remove_files(uri: str, names: Iterable[str]) -> None:
    """Remove the files `names` at `uri`, if they are there. Raises DataError: the store refuses."""
    folder = Folder.at(uri)
    for name in names:
        with _readable_errors(folder.shown(name), "removed"), suppress(FileNotFoundError):
            folder.store.delete_file(f"{folder.root}/{name}")


def _files(uri: str) -> tuple[Folder, list[Any]]:
    folder = Folder.at(uri)
    files = folder.files()
    if not files:
        raise DataError(f"{uri}: no file there; is the prefix right?")
    return folder, files


@contextmanager
def _readable_errors(uri: str, action: str = "read") -> Iterator[None]:
    """Turn what the store raises within the block into a DataError naming `uri`."""
    try:
        yield
    except (OSError, ValueError) as error:
        if is_full_disk(error) or isinstance(error, UserError):
            raise
        keys = "; does the bucket exist? check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
        if is_remote(uri) and re.search(r"[^!-~]|[#?\[\]]|%(?![0-9A-Fa-f]{2})", uri):
            keys = "; percent-encode what is no plain character of a URI, such as %20 for a space"
        hint = keys if is_remote(uri) else ""
        raise DataError(f"{uri}: cannot be {action} ({error}){hint}") from error

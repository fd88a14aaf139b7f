"""Bringing folders from object storage to the local disk; credentials come from the environment.

`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL` and `AWS_REGION` work as they do for
boto3 and the AWS command line.
"""

from pathlib import Path
from typing import Any

from components.shared.errors import DataError

SCHEMES = ("s3://",)


def is_remote(uri: str) -> bool:
    """Return whether `uri` names object storage rather than a local path."""
    return uri.startswith(SCHEMES)


def stamp(uri: str) -> list[str]:
    """Return name, size and modification time of every file below `uri`, in the order of names.

    Raises:
        DataError: nothing is there, or the store refuses; names the URI.
    """
    files = _listing(uri)[2]
    return [f"{file.path} {file.size} {file.mtime_ns}" for file in sorted(files, key=lambda f: f.path)]


def download(uri: str, folder: Path) -> None:
    """Copy every file below `uri` into `folder`, keeping names.

    Raises:
        DataError: nothing is there, or the store refuses; names the URI.
    """
    from pyarrow import fs

    store, root, _ = _listing(uri)
    try:
        fs.copy_files(root, str(folder), source_filesystem=store)
    except OSError as error:
        raise _refused(uri, error) from error


def _listing(uri: str) -> tuple[Any, str, list[Any]]:
    from pyarrow import fs

    try:
        store, root = fs.FileSystem.from_uri(uri)
        found = store.get_file_info(fs.FileSelector(root, recursive=True))
    except OSError as error:
        raise _refused(uri, error) from error
    files = [entry for entry in found if entry.is_file]
    if not files:
        raise DataError(f"{uri}: no file there; is the prefix right?")
    return store, root, files


def _refused(uri: str, error: OSError) -> DataError:
    return DataError(
        f"{uri}: cannot be read ({error}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
        "AWS_ENDPOINT_URL"
    )

"""Bringing folders from object storage to the local disk; credentials come from the environment.

`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL` and `AWS_REGION` work as they do for
boto3 and the AWS command line.
"""

from pathlib import Path

from components.shared.errors import DataError

SCHEMES = ("s3://",)


def is_remote(uri: str) -> bool:
    """Return whether `uri` names object storage rather than a local path."""
    return uri.startswith(SCHEMES)


def download(uri: str, folder: Path) -> None:
    """Copy every file below `uri` into `folder`, keeping names.

    Raises:
        DataError: nothing is there, or the store refuses; names the URI.
    """
    from pyarrow import fs

    try:
        source, root = fs.FileSystem.from_uri(uri)
        found = source.get_file_info(fs.FileSelector(root, recursive=True))
        if not any(entry.is_file for entry in found):
            raise DataError(f"{uri}: no file there; is the prefix right?")
        fs.copy_files(root, str(folder), source_filesystem=source)
    except OSError as error:
        raise DataError(
            f"{uri}: cannot be read ({error}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
            "AWS_ENDPOINT_URL"
        ) from error

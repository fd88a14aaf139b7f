"""Archives that torch and numpy write: whole, or told to be damaged."""

import errno
import zipfile
from pathlib import Path


def check_archive(file: Path) -> None:
    """Compare every member of a zip archive with its checksum: neither torch.load nor numpy looks at all.

    Raises BadZipFile, or another ValueError: the archive is damaged.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} in it is damaged")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # A damaged directory may send the reader before the file's beginning.
        raise zipfile.BadZipFile(str(error)) from error

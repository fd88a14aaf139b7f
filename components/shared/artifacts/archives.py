"""Reading the archives that torch and numpy write, where they are intact."""

import errno
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from components.shared.language_model.checks import is_out_of_memory
from components.shared.logs import logger

log = logger("checkpoints")
T = TypeVar("T")


def read_archive(file: Path, read: Callable[[Path], T]) -> T | None:
    """Return `read(file)`; None if there is no such file, or a corrupt one, which is logged."""
    if not file.is_file():
        return None
    try:
        with zipfile.ZipFile(file) as archive:  # neither torch.load nor numpy compares the checksums
            if corrupt := archive.testzip():
                raise ValueError(f"{corrupt} in it is corrupt")
        return read(file)
    except Exception as error:  # a corrupt file can end in anything, deep inside the libraries
        # Not the file's fault; but a corrupt directory may send zipfile before the file's beginning (EINVAL).
        if is_out_of_memory(error) or (isinstance(error, OSError) and error.errno != errno.EINVAL):
            raise
        log.warning("%s cannot be used (%s: %s); starting over", file, type(error).__name__, error)
        return None

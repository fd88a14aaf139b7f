"""Arrays that are computed once for all models and folds of a run, and saved."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.shared.artifacts.archives import read_archive
from components.shared.artifacts.outputs import atomic_file


def saved_array(file: Path | None, make: Callable[[], npt.NDArray]) -> npt.NDArray:
    """Return the array in `file` (.npz); without an intact one, what `make` returns, saved there.

    None: never saved. Raises OutputError: the disk is full.
    """
    array = read_archive(file, _read) if file else None
    if array is None:
        array = make()
        if file:
            with atomic_file(file) as partial, partial.open("wb") as opened:
                np.savez(opened, array=array)
    return array


def _read(file: Path) -> npt.NDArray:
    with np.load(file) as arrays:
        return arrays["array"]

"""Arrays that are made once for all models and folds of a run, and saved."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.shared.artifacts.archives import check_archive
from components.shared.artifacts.outputs import atomic_file
from components.shared.language_model.memory import is_out_of_memory


def saved_array(file: Path | None, make: Callable[[], npt.NDArray]) -> npt.NDArray:
    """Return the array in `file` (.npz); without a whole one, what `make` returns, saved there.

    None: never saved. Raises OutputError: the disk is full.
    """
    if file and file.is_file():
        try:
            check_archive(file)
            with np.load(file) as arrays:
                return arrays["array"]
        except Exception as error:  # a damaged file can end in anything
            if is_out_of_memory(error) or isinstance(error, OSError):
                raise  # nothing is known against the file
            told = f"{type(error).__name__}: {error}"
            print(f"retrieve: {file} cannot be read ({told}); made anew", flush=True)
    array = make()
    if file:
        with atomic_file(file) as partial, partial.open("wb") as opened:
            np.savez(opened, array=array)
    return array

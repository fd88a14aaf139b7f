"""Arrays that are made once for all models and folds of a run, and saved."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.shared.outputs import whole_file


def saved_array(file: Path | None, make: Callable[[], npt.NDArray]) -> npt.NDArray:
    """Return the array in `file` (.npy); without a whole one, what `make` returns, saved there.

    None: never saved.
    """
    if file and file.is_file():
        try:
            return np.load(file)
        except (ValueError, EOFError) as error:
            print(f"retrieve: {file} cannot be read ({error}); made anew", flush=True)
    array = make()
    if file:
        with whole_file(file) as partial, partial.open("wb") as opened:
            np.save(opened, array)
    return array

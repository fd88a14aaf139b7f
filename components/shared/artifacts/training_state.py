"""The file from which a killed training resumes; corrupt archives of torch and numpy are not read."""

import errno
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from components.shared.artifacts import checkpoint_store
from components.shared.artifacts.outputs import atomic_file
from components.shared.language_model.checks import is_out_of_memory
from components.shared.logs import logger

log = logger("checkpoints")
T = TypeVar("T")


def save(
    file: Path,
    weights: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    rest: Mapping[str, Any],
) -> None:
    """Write the state to `file` of a checkpoint directory.

    `rest` holds tensors and plain values. Raises OutputError: a disk is full; DataError: the directory's
    object storage refuses.
    """
    saved = {"weights": dict(weights), "optimizer": optimizer.state_dict(), "rest": dict(rest)}
    # Into a file opened here: the system's reason for a failed write is then part of torch's error.
    with atomic_file(file) as partial, partial.open("wb") as opened:
        torch.save(saved, opened)
    checkpoint_store.push(file.parent)


def resume(
    file: Path,
    weights: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    expected: Collection[str],
) -> dict[str, Any] | None:
    """Copy what `save` wrote into `weights` (the network's own memory) and `optimizer`; return the rest.

    None, with nothing changed, if there is no such file, or if it is corrupt, of other weights, or its rest
    has other names than `expected`, which is logged.
    """

    def read(file: Path) -> dict[str, Any]:
        saved = torch.load(file, map_location="cpu", weights_only=True)
        if _shapes(saved["weights"]) != _shapes(weights):
            raise ValueError("it has other weights; by another library's version?")
        if set(saved["rest"]) != set(expected):
            raise ValueError("it is of another training")
        optimizer.load_state_dict(saved["optimizer"])
        return saved

    saved = read_archive(file, read)
    if saved is None:
        return None
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(saved["weights"][name])
    return dict(saved["rest"])


def _shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


def read_archive(file: Path, read: Callable[[Path], T]) -> T | None:
    """Return `read(file)`; None for a missing file, or a corrupt one, which is logged."""
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

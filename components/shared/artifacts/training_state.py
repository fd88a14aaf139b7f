"""The file from which a killed training resumes."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from components.shared.artifacts.archives import read_archive
from components.shared.artifacts.outputs import atomic_file


def save(
    file: Path,
    weights: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    rest: Mapping[str, Any],
) -> None:
    """Write the three (`rest`: tensors and plain values) to `file`. Raises OutputError: a disk is full."""
    saved = {"weights": dict(weights), "optimizer": optimizer.state_dict(), "rest": dict(rest)}
    # Into a file opened here: the system's reason for a failed write is then part of torch's error.
    with atomic_file(file) as partial, partial.open("wb") as opened:
        torch.save(saved, opened)


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

"""The file from which a killed training goes on: written whole or not at all, told where it is damaged."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from components.shared.artifacts.archives import check_archive
from components.shared.artifacts.outputs import atomic_file
from components.shared.language_model.memory import is_out_of_memory


def save(
    file: Path,
    weights: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    rest: Mapping[str, Any],
) -> None:
    """Write `weights`, `optimizer` and `rest` (tensors and plain values).

    Raises OutputError: a disk is full.
    """
    saved = {"weights": dict(weights), "optimizer": optimizer.state_dict(), "rest": dict(rest)}
    # Into a file opened here: the system's reason for a failed write is then part of torch's error.
    with atomic_file(file) as partial, partial.open("wb") as opened:
        torch.save(saved, opened)


def resume(
    file: Path,
    step: str,
    weights: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    expected: Collection[str],
) -> dict[str, Any] | None:
    """Copy what `save` wrote into `weights` (the network's own memory) and `optimizer`, and return the rest.

    None, with nothing changed, where there is no such file, or one that is damaged, of other weights, or
    whose rest has other names than `expected`; that is told in the name of `step`.
    """
    if not file.is_file():
        return None
    try:
        check_archive(file)
        saved = torch.load(file, map_location="cpu", weights_only=True)
        found, rest = saved["weights"], dict(saved["rest"])
        if _shapes(found) != _shapes(weights):
            raise ValueError("it has other weights; by another library's version?")
        if set(rest) != set(expected):
            raise ValueError("it is of another training")
        optimizer.load_state_dict(saved["optimizer"])
    except Exception as error:  # a damaged file can end in anything
        if is_out_of_memory(error) or isinstance(error, OSError):
            raise  # nothing is known against the file
        print(
            f"{step}: {file} cannot be taken up ({type(error).__name__}: {error}); beginning anew", flush=True
        )
        return None
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(found[name])
    return rest


def _shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}

"""Reasons to stop a training, each an error that says what to do."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from components.shared.errors import ConfigError, TrainingError


def check_length(tokens: int, limit: int | None, remedy: str, name: str = "the model's context") -> None:
    """Raise ConfigError if the longest prompt with its answer exceeds the `limit` (None: not known)."""
    if limit is not None and tokens > limit:
        raise ConfigError(
            f"the longest prompt with its answer has {tokens} tokens, more than {name} of {limit}; {remedy}"
        )


def check_finite(
    when: str,
    section: str,
    learning_rate: float,
    *figures: float,
    network: nn.Module | None = None,
    hint: str | None = None,
) -> None:
    """Raise TrainingError if a figure (loss, norm) or a weight of `network` is not finite.

    `hint` replaces what else to change in the configuration's `section` besides its learning rate.
    """
    if not all(map(math.isfinite, figures)) or not (network is None or are_finite(network)):
        hint = f" or set {section}.dtype to float32" if hint is None else hint
        raise TrainingError(
            f"the loss or a weight is not finite {when}; lower {section}.learning_rate "
            f"({learning_rate:g}){hint}"
        )


def are_finite(network: nn.Module) -> bool:
    """Return whether no weight of `network` is NaN or infinite."""
    return all(bool(weight.isfinite().all()) for weight in network.parameters())


@contextmanager
def explain_oom(remedy: str) -> Iterator[None]:
    """Turn an out-of-memory error of a device or the machine into a TrainingError with `remedy`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        detail = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainingError(f"out of memory ({detail}); {remedy}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` means that memory is used up."""
    # torch's allocator of the CPU raises a plain RuntimeError, which only its text distinguishes.
    by_text = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return by_text or isinstance(error, torch.OutOfMemoryError | MemoryError)

"""Saying what to do when the memory is used up."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from components.shared.errors import TrainingError


@contextmanager
def explain_oom(remedy: str) -> Iterator[None]:
    """Turn a device or a machine out of memory into a TrainingError with what was asked for and `remedy`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainingError(f"out of memory ({told}); {remedy}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether `error` tells of used-up memory; the CPU's allocator does so by a RuntimeError's text."""
    by_type = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return by_type or "can't allocate memory" in str(error)

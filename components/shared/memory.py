"""Saying what to do when the memory is used up."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from components.shared.errors import TrainingError


@contextmanager
def memory_told(remedy: str) -> Iterator[None]:
    """Turn a device or a machine out of memory into a TrainingError with what was asked for and `remedy`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        by_type = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not by_type and "can't allocate memory" not in str(error):  # how the CPU's allocator puts it
            raise
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainingError(f"out of memory ({told}); {remedy}") from error

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
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(f"out of memory ({_first_line(error)}); {remedy}") from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # how the CPU's allocator puts it
            raise
        raise TrainingError(f"out of memory ({_first_line(error)}); {remedy}") from error


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

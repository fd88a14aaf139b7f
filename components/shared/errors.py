"""The errors a user can act on. Everything else is a bug and keeps its traceback."""

import contextlib
import errno
import os
from collections.abc import Iterator

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class UserError(ValueError):
    """A mistake in the input or the configuration; the message names it and the remedy."""


class ConfigError(UserError):
    """A profile or configuration section that cannot be read; names file and key."""


class DataError(UserError):
    """Data that a step cannot use; names the file, row or column."""


class ContractError(DataError):
    """A critical expectation failed; names the expectation, the count and sample rows."""


class LeakageError(DataError):
    """A label leaked into what the model reads or was trained on."""


class ModelError(UserError):
    """A base model or checkpoint that is missing, unsafe or unreadable."""


class OutputError(UserError):
    """An output that could not be written because a disk is full; names it."""


class TrainingError(UserError):
    """Training cannot continue (NaN loss, no usable group …); names the figure and the setting."""


@contextlib.contextmanager
def faults_as(error_class: type[UserError]) -> Iterator[None]:
    """Raise a ValueError of the block, such as the strict decoder's, as `error_class`."""
    try:
        yield
    except ValueError as error:
        raise error_class(str(error)) from error


@contextlib.contextmanager
def full_disk_named(output: str) -> Iterator[None]:
    """Raise a full disk in the block as an OutputError naming `output`."""
    try:
        yield
    except BaseException as error:
        if is_full_disk(error):
            raise OutputError(f"{output} is not written: a disk is full ({error})") from error
        raise


def with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, then what caused it, one after the other."""
    found: BaseException | None = error
    while found:
        yield found
        found = found.__cause__ or found.__context__


def is_full_disk(error: BaseException) -> bool:
    """Return whether `error`, or what caused it, is a full disk or a used-up quota."""
    for one in with_causes(error):
        if isinstance(one, OutputError):  # it names its own output already
            return False
        if isinstance(one, OSError) and one.errno in _DISK_FULL:
            return True
        # These two keep the system's reason in the text alone.
        by_text = type(one).__module__.partition(".")[0] in ("mlflow", "safetensors")
        if by_text and names_full_disk(str(one)):
            return True
    return False


def names_full_disk(text: str) -> bool:
    """Return whether `text` holds the system's words for a full disk or used-up quota."""
    return any(os.strerror(number) in text for number in _DISK_FULL)

"""Processes that end with the one that started them."""

import ctypes
import signal
import sys


def die_with_parent() -> None:
    """Ask Linux to end this process with its parent, even if that is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

"""Why a program failed, in one line: an exception's own message without any stack trace."""

import re
from collections.abc import Sequence

from components.shared.errors import UserError

_TRACEBACK = "Traceback (most recent call last):"
_JAVA = "An error occurred while calling "  # Py4J: what follows is a Java exception with its stack trace
_ROOT = re.compile(r"\s*Caused by: (.+)")
_PACKAGE = re.compile(r"(?:[\w$]+\.)+(?=[A-Z]\w*(?::|$))")
_MARGIN = re.compile(r"^(\s*)[|+] ")
"""What stands before each line of an exception group's stack traces."""
_DIGIT = re.compile(r"\d")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_RAY = re.compile(r"RayTaskError\((\w+)\): ")
_LONGEST = 500


def of_exception(error: BaseException) -> str:
    """Return a UserError's message; of another error its name and one line."""
    if isinstance(error, UserError):
        return str(error).strip()
    lines = str(error).strip().splitlines()
    if cause := within(lines):  # Spark's and a worker's message hold the traceback of the real cause
        return cause
    name = type(error).__name__
    return f"{name}: {_first(lines)}" if lines else name


def within(lines: Sequence[str]) -> str:
    """Return the exception of the last stack trace in `lines`; "" without one."""
    lines = [_MARGIN.sub(r"\1  ", _COLOUR.sub("", line)) for line in lines]
    starts = [number for number, line in enumerate(lines) if line.endswith(_TRACEBACK)]
    if starts:
        indent = _indent(lines[starts[-1]])
        rest = _of_one_writer(lines[starts[-1]], lines[starts[-1] + 1 :])
        # The frames are indented, the exception is not.
        ends = (n for n, line in enumerate(rest) if line.strip() and _indent(line) <= indent)
        lines = rest[next(ends, len(rest)) :]
    elif not any(_JAVA in line for line in lines[:1]):
        return ""
    if lines and (of_ray := _RAY.search(lines[0])):  # the worker's own traceback follows
        inner = re.compile(rf"(\w+\.)*{of_ray[1]}\b")
        lines = lines[next((n for n, line in enumerate(lines) if n and inner.match(line)), 0) :]
    return _of_java(lines) if lines and _JAVA in lines[0] else _first(lines)


def _of_one_writer(header: str, lines: Sequence[str]) -> Sequence[str]:
    """Return those of `lines` that begin as `header` does, without their beginnings."""
    before = header.removesuffix(_TRACEBACK)
    shape, end = _DIGIT.sub("0", before), len(before)
    own = [line[end:] for line in lines if _DIGIT.sub("0", line[:end]) == shape]
    # Indented lines all begin alike; before the header there may also be an exception's name.
    return own if before.strip() and own else lines


def _of_java(lines: Sequence[str]) -> str:
    roots = [found[1] for line in lines if (found := _ROOT.match(line))]
    thrown = [line.strip().removeprefix(": ") for line in lines[1:]]
    return _first(roots[-1:] or thrown)


def _first(lines: Sequence[str]) -> str:
    """Return the first telling line; the next one, too, after a colon."""
    said = [line.strip() for line in lines if line.strip()]
    text = " ".join(said[:2]) if said and said[0].endswith(":") else "".join(said[:1])
    text = _PACKAGE.sub("", text, count=1)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())

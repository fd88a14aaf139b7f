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
    lines = [_MARGIN.sub(r"\1  ", line) for line in lines]
    starts = [number for number, line in enumerate(lines) if line.endswith(_TRACEBACK)]
    if starts:
        indent = _indent(lines[starts[-1]])
        rest = lines[starts[-1] + 1 :]
        # The frames are indented, the exception is not.
        ends = (n for n, line in enumerate(rest) if line.strip() and _indent(line) <= indent)
        lines = rest[next(ends, len(rest)) :]
    elif not any(_JAVA in line for line in lines[:1]):
        return ""
    return _of_java(lines) if lines and _JAVA in lines[0] else _first(lines)


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

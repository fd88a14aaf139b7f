"""How text tables are written: UTF-8 to the last byte, one kind of separators and quotes per CSV file."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, replace
from typing import Any, TextIO

from components.shared.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
SAMPLE_CHARS = 8192
MIXED_SHARE = 0.01  # of lines in another dialect; fewer are broken rows
MORE = re.compile(r"\}\s*[^\s,}\]]")  # behind an object, unless it is within a text
_MAGIC = {
    b"\x1f\x8b": "a gzip file; add .gz to its name",
    b"PK\x03\x04": "a ZIP file or an Excel sheet; unpack it, or save it as CSV",
    b"PAR1": "a Parquet file; name it .parquet",
}


@dataclass(frozen=True)
class Dialect:
    """How a CSV file separates and quotes its fields; `escape` precedes a quote within quotes."""

    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'

    def __str__(self) -> str:
        delimiter = {"\t": "tabs"}.get(self.delimiter, f"'{self.delimiter}'")
        how = "doubled" if self.escape == self.quote else f"after {self.escape}"
        return f"fields separated by {delimiter}, quoted by {self.quote}, quotes within {how}"

    def reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """Return the rows of `lines`."""
        is_doubled = self.escape == self.quote
        escape = None if is_doubled else self.escape
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            doublequote=is_doubled,
            escapechar=escape,
            skipinitialspace=True,
        )


def detect(sample: str, is_header: Callable[[list[str]], bool]) -> Dialect:
    """Return the dialect of a CSV file that begins with `sample`.

    `is_header` says whether names make a header of the table, which settles the delimiter in most files.
    """
    import clevercsv

    header = sample.lstrip("\ufeff").partition("\n")[0]
    fitting = [d for d in DELIMITERS if is_header([n.strip("\"' \r") for n in header.split(d)])]
    if len(fitting) == 1 and not re.search(r"[\"'\\]", sample):
        return Dialect(fitting[0])
    possible = fitting or list(DELIMITERS)
    if len(fitting) == len(DELIMITERS):  # a single column, whose ids may hold any of them
        possible = [d for d in DELIMITERS if d not in sample] or possible
    try:
        found = clevercsv.Sniffer().sniff(sample, delimiters="".join(possible))
    except clevercsv.Error:
        found = None
    if found is None:
        return Dialect(possible[0])
    quote = '"' if '"' in header else str(found.quotechar or '"')
    delimiter = found.delimiter if found.delimiter in possible else possible[0]
    return Dialect(str(delimiter), quote, str(found.escapechar or quote))


def confirmed(lines: Iterable[str], shown: str, dialect: Dialect) -> Dialect:
    """Return `dialect` with the escape that all `lines` of the CSV file have.

    Raises DataError: two dialects in one file.
    """
    delimiter, quote = re.escape(dialect.delimiter), re.escape(dialect.quote)
    # A quote within quotes is followed by more of the field, an escape before a closing quote is not.
    escaped = re.compile(rf"(?<!\\)\\{quote}(?!{quote}|\s*({delimiter}|$))")
    doubled = re.compile(rf"(?<![{delimiter}\s{quote}\\]){quote}{quote}")
    first: dict[str, int] = {}
    total, others, width = 0, dict.fromkeys(DELIMITERS, 0), 0
    for number, line in enumerate(lines, start=1):
        width = width or line.count(dialect.delimiter)
        total += 1
        if dialect.quote in line:
            for name, pattern in (("\\", escaped), (dialect.quote, doubled)):
                if name not in first and pattern.search(line):
                    first[name] = number
        elif width and line.count(dialect.delimiter) == 0:
            for other in DELIMITERS:
                others[other] += line.count(other) == width
    if len(first) == 2:
        places = " and ".join(f"{name}{dialect.quote} (line {number})" for name, number in first.items())
        raise DataError(
            f"{shown}: quotes within quotes are written in two ways, {places}, so fields would run together; "
            "export the file again in one way"
        )
    other = max(others, key=lambda name: others[name])
    if others[other] > MIXED_SHARE * total:
        raise DataError(
            f"{shown}: {others[other]:,} of {total:,} lines are separated by {other!r}, the header by "
            f"{dialect.delimiter!r}; export the file again with one separator"
        )
    return replace(dialect, escape=next(iter(first), dialect.escape))


def check_objects(lines: Iterable[str], shown: str, names: Set[str]) -> set[str]:
    """Return those of `names` that are keys of no object in `lines`.

    Raises DataError: a line holds more than one object, of which Spark reads the first and loses the others.
    """
    unseen = {name: (json.dumps(name), json.dumps(name, ensure_ascii=False)) for name in names}
    for number, line in enumerate(lines, start=1):
        if unseen:
            unseen = {name: keys for name, keys in unseen.items() if not any(key in line for key in keys)}
        if MORE.search(line) and _has_more(line):
            raise DataError(
                f"{shown}: line {number} holds more than one JSON object; were files put together without a "
                "line break? Write one object per line"
            )
    return set(unseen)


def _has_more(line: str) -> bool:
    """Return whether a JSON value in `line` is followed by something else."""
    try:
        _, end = json.JSONDecoder().raw_decode(line.lstrip())
    except (ValueError, RecursionError):
        return False  # malformed, as Spark finds, too
    return bool(line.lstrip()[end:].strip(" \t\r\n,]"))


def not_utf8(open_text: Callable[[], TextIO], shown: str) -> str:
    """Return which line of the text is no UTF-8, and which encoding it may be."""
    number, line = 1, b""
    with open_text() as text:
        stream: Any = text.buffer  # Arrow's streams have no lines of their own
        for number, line in enumerate(io.BufferedReader(stream), start=1):  # noqa: B007
            if b"\0" in line or not _is_utf8(line):
                break
    if kind := next((kind for magic, kind in _MAGIC.items() if number == 1 and line.startswith(magic)), None):
        return f"{shown}: this is no text but {kind}"
    guess = _encoding(line)
    text_shown = line.decode("latin-1" if guess == "UTF-16" else guess, "replace").strip()[:80]
    return (
        f"{shown}: line {number} is not readable as UTF-8 text: {text_shown!r}; is it {guess}? Convert the "
        f"file, as by iconv -f {guess.upper()} -t UTF-8"
    )


def _encoding(line: bytes) -> str:
    """Return which encoding `line`, which is no UTF-8, may have."""
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in line:
        return "UTF-16"
    # Accented letters stand alone, Chinese characters are pairs.
    pairs = re.findall(rb"[\x80-\xff]+", line)
    return "Windows-1252" if any(len(found) % 2 for found in pairs) else "GB18030"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True

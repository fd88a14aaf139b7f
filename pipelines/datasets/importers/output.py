"""What an import writes and reports; shared by the importers."""

import codecs
import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.shared.errors import DataError
from components.shared.logs import logger
from data_contracts import tables
from pipelines.datasets.own_folder import own_folder

log = logger("import")

EXAMPLE_CHARS = 120
MILLISECONDS = 10**11
"""From here on a time is in milliseconds: in seconds it would lie in the year 5138."""


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """Rows per table; `without_title` counts items."""

    users: int
    items: int
    events: int
    without_title: int = 0


class Faults:
    """Counts of unusable lines and fields, with the first example of each kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def add(self, kind: str, path: Path, number: int, line: object, unit: str = "line") -> None:
        """Count a fault in line (or another `unit`) `number` of the file `path`."""
        self.counts[kind] += 1
        text = line.decode(errors="replace") if isinstance(line, bytes) else str(line)
        self.examples.setdefault(kind, f"{path}, {unit} {number}: {text.strip()[:EXAMPLE_CHARS]!r}")

    def check_usable(self, path: Path, usable: int, expected: str) -> None:
        """Raise DataError if no row of the file `path` is usable."""
        if not usable:
            examples = "; ".join(f"{kind}: {example}" for kind, example in self.examples.items())
            raise DataError(f"{path}: no usable row ({examples or 'it is empty'}); expected {expected}")


def write_tables(
    out: str | Path, faults: Faults, users: pa.Table, items: pa.Table, events: pa.Table
) -> ImportReport:
    """Write the three raw tables to `out`, a folder or s3:// URI.

    Columns that a table lacks are null. Nulls in required columns are left to the quarantine of a run.
    """
    with own_folder(out) as folder:
        for name, table in (("users", users), ("items", items), ("events", events)):
            columns = [
                (table[f.name] if f.name in table.column_names else pa.nulls(len(table))).cast(f.type)
                for f in tables.RAW[name]
            ]
            nullable = pa.schema([f.with_nullable(True) for f in tables.RAW[name]])
            pq.write_table(pa.Table.from_arrays(columns, schema=nullable), folder / f"{name}.parquet")
    for kind, count in faults.counts.items():
        log.warning(f"{kind}: {count:,} times, such as {faults.examples[kind]}")
    return ImportReport(
        users=len(users),
        items=len(items),
        events=len(events),
        without_title=items["title"].null_count,
    )


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes (no BOM) of each non-blank line of `path`. Raises DataError."""
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: unreadable after line {number} ({error}); download it again") from error


def text_or_none(value: object) -> str | None:
    """Return `value` if it is text, not empty and valid Unicode, else None."""
    try:
        return value if isinstance(value, str) and value.encode() else None
    except UnicodeEncodeError:  # half of a surrogate pair
        return None

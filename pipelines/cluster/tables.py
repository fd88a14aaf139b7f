"""Plain tables whose identifiers are never cut, at a terminal or in a pipe."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

_WIDTH = 1000  # more than any row has


def show(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print `rows` under `headers`."""
    table = Table(box=None, pad_edge=False)
    for header in headers:
        table.add_column(header, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False, soft_wrap=True, width=_WIDTH).print(table)

"""What an import says when it is done."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """Rows of each table; `without_title` counts items."""

    users: int
    items: int
    events: int
    without_title: int = 0

"""How people's own files hold the raw tables: names of files, columns and actions."""

from collections.abc import Sequence
from dataclasses import field
from typing import Literal

from components.shared.config import strict
from components.shared.errors import DataError


@strict
class RawSource:
    """Where one raw table is, and what its columns and values are called there."""

    file: str = ""
    """Name of the file or folder without its ending; empty = the table's name."""
    columns: dict[str, str] = field(default_factory=dict)
    """The file's column for each of the table's that has another name: `user_id: personId`."""
    actions: dict[str, str] = field(default_factory=dict)
    """Events: the contract's action for each of the log's: `VIEW: view`."""
    time_unit: Literal["s", "ms", "us"] = "s"
    """Unit of times that are numbers."""
    from_events: bool = False
    """Users and items: there is no such table; their ids are those of the events."""

    def names(self, own: str) -> list[str]:
        """Return the columns of the contract that the file's column `own` stands for."""
        mapped = [name for name, given in self.columns.items() if given == own]
        return mapped or ([] if own in self.columns else [own])

    def renamed(self, found: Sequence[str]) -> list[str]:
        """Return the contract's names of the columns `found`, where they have any."""
        return [name for own in found for name in self.names(own)]

    def check(self, shown: str, found: Sequence[str]) -> None:
        """Raise DataError if the file `shown` lacks a column that is named here."""
        for name, own in self.columns.items():
            if own not in found:
                raise DataError(
                    f"{shown}: column '{own}', which sources.*.columns names as {name}, is missing "
                    f"(found: {', '.join(found)})"
                )


@strict
class RawSources:
    """How each raw table is found; one as the contract says needs no entry."""

    users: RawSource = field(default_factory=RawSource)
    """The table users."""
    items: RawSource = field(default_factory=RawSource)
    """The table items."""
    events: RawSource = field(default_factory=RawSource)
    """The table events."""
    exposures: RawSource = field(default_factory=RawSource)
    """The table exposures."""

    def __post_init__(self) -> None:
        if all(given == RawSource() for given in (self.users, self.items, self.events, self.exposures)):
            return
        from data_contracts import tables  # pyarrow, which the command line does without

        for table in tables.RAW:
            given = self.of(table)
            if unknown := set(given.columns) - set(tables.RAW[table].names):
                raise ValueError(
                    f"{table}.columns: unknown column '{min(unknown)}'; the table {table} has "
                    f"{', '.join(tables.RAW[table].names)}"
                )
            if given.actions and table != "events":
                raise ValueError(f"{table}.actions: only events have actions")
            if given.from_events and table not in ("users", "items"):
                raise ValueError(f"{table}.from_events: only users and items can be taken from the events")
            if given.from_events and given != RawSource(from_events=True):
                raise ValueError(f"{table}.from_events: such a table has no file and no columns of its own")
            if set("./") & set(given.file):
                raise ValueError(
                    f"{table}.file: {given.file!r} must be the name of a file or folder in the data folder, "
                    "without its ending"
                )
        if unknown := set(self.events.actions.values()) - set(tables.ACTIONS):
            raise ValueError(
                f"events.actions: unknown action '{min(unknown)}'; known: {', '.join(tables.ACTIONS)}"
            )

    def of(self, table: str) -> RawSource:
        """Return the entry of the raw table `table`."""
        return getattr(self, table)

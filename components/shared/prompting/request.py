"""One request to the registered model; a fault is named by its place, such as `history[0].title`."""

from collections.abc import Mapping
from dataclasses import field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, PositiveInt

from components.shared.config import parse, strict
from components.shared.errors import DataError, faults_as
from components.shared.prompting.text import clean_text
from components.shared.times import parse_time
from data_contracts.tables import PROFILE, Action

LONGEST = 10_000
"""Characters of a text: ten times what the longest titles of shops have."""


def _filled(text: str) -> str:
    """Return `text` without spaces around it, as the log's ids are read."""
    if not (filled := text.strip()):
        raise ValueError("must not be empty")
    return filled


Time = Annotated[datetime, BeforeValidator(lambda value: parse_time("time", str(value)))]
Id = Annotated[str, AfterValidator(_filled)]
Words = Annotated[str, AfterValidator(clean_text)]
"""Text as the catalogue has it, which training showed."""
Title = Annotated[Words, AfterValidator(_filled)]


@strict
class SeenItem:
    """An item of the history; `timestamp` is the time of the first of its actions."""

    actions: Annotated[list[Action], Field(min_length=1)]
    timestamp: Time
    item_id: Id | None = None
    title: Words | None = None
    topic: Words | None = None
    brand: Words | None = None

    def __post_init__(self) -> None:
        if not self.item_id and not self.title:
            raise ValueError("needs an item_id or a title")


@strict
class CandidateItem:
    """An item to rank, with the retriever's score and what `prompts.item_facts` may show of it."""

    item_id: Id
    title: Title
    topic: Words | None = None
    score: float | None = None
    brand: Words | None = None
    tags: list[Words] | None = None
    description: Words | None = None
    actions: dict[Action, NonNegativeInt] | None = None
    users: NonNegativeInt | None = None
    last: NonNegativeInt | None = None
    together: NonNegativeInt | None = None


def _in_order(profile: dict[str, str | None]) -> dict[str, str | None]:
    if unknown := sorted(profile.keys() - set(PROFILE)):
        raise ValueError(f"unknown field {unknown[0]!r}; training showed {', '.join(PROFILE)}")
    return {name: profile[name] for name in PROFILE if name in profile}


Profile = Annotated[dict[str, str | None], AfterValidator(_in_order)]


def _by_item(history: list[SeenItem]) -> list[SeenItem]:
    """Return one entry per item, oldest first, with all actions on it."""
    entries: dict[Any, list[SeenItem]] = {}
    for seen in sorted(history, key=lambda seen: seen.timestamp):
        entries.setdefault(seen.item_id or id(seen), []).append(seen)
    return [
        replace(first, actions=[*first.actions, *(action for seen in more for action in seen.actions)])
        if more
        else first
        for first, *more in entries.values()
    ]


def _distinct(items: list[CandidateItem]) -> list[CandidateItem]:
    first: dict[str, CandidateItem] = {}
    for item in items:
        first.setdefault(item.item_id, item)
    return list(first.values())


@strict
class Interest:
    """A topic, and how often it occurs in all of the user's history."""

    topic: Title
    count: PositiveInt


@strict
class Request:
    """A row of the registered model's input; `RankingModel` describes its columns."""

    history: Annotated[list[SeenItem], AfterValidator(_by_item)] = field(default_factory=list)
    """Sorted by time; of several entries on one item the first, with all their actions."""
    candidates: Annotated[list[CandidateItem], AfterValidator(_distinct)] = field(default_factory=list)
    """Of those with one item_id the first."""
    profile: Profile = field(default_factory=dict)
    """In the order in which training showed it."""
    now: Time = field(default_factory=lambda: datetime.now(UTC))
    interests: list[Interest] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A day, as in the log's contract: clocks differ.
        if self.history and (last := self.history[-1].timestamp) - self.now > timedelta(days=1):
            raise ValueError(f"history goes on to {last}, after now ({self.now})")


def read_request(row: Mapping[Any, Any], source: str) -> Request:
    """Return the request in `row` of a data frame; null is what was left out.

    Raises DataError, naming `source` and the place of each fault.
    """
    try:
        values = {key.name: _plain(row.get(key.name), f"{source}.{key.name}") for key in fields(Request)}
        given = {name: value for name, value in values.items() if value is not None}
        with faults_as(DataError):
            return parse(Request, given, source)
    except RecursionError as error:
        raise DataError(f"{source}: lists or mappings in one another, hundreds deep") from error


def _plain(value: Any, place: str) -> Any:
    """Return `value` with lists for MLflow's arrays, and None for pandas' NaN.

    Raises DataError for a text that is too long.
    """
    if isinstance(value, str) and len(value) > LONGEST:
        raise DataError(f"{place}: a text of {len(value):,} characters; at most {LONGEST:,} are read")
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {_plain(name, place): _plain(inner, f"{place}.{name}") for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, f"{place}[{number}]") for number, inner in enumerate(value)]
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value

"""One request to the registered model; a fault is named by its place, such as `history[0].title`."""

from collections.abc import Mapping
from dataclasses import field, fields
from datetime import UTC, datetime
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, BeforeValidator, Field

from components.shared.config import parse, strict
from components.shared.errors import DataError, faults_as
from components.shared.times import parse_time

Time = Annotated[datetime, BeforeValidator(lambda value: parse_time("time", str(value)))]


@strict
class SeenItem:
    """An item of the history; `timestamp` is the time of the first of its actions."""

    actions: Annotated[list[str], Field(min_length=1)]
    timestamp: Time
    item_id: str | None = None
    title: str | None = None
    topic: str | None = None
    brand: str | None = None

    def __post_init__(self) -> None:
        if self.item_id is None and self.title is None:
            raise ValueError("needs an item_id or a title")


@strict
class CandidateItem:
    """An item to rank, with the retriever's score and what `prompts.item_facts` may show of it."""

    item_id: str
    title: str
    topic: str | None = None
    score: float | None = None
    brand: str | None = None
    tags: list[str] | None = None
    users: int | None = None
    last: int | None = None
    together: int | None = None


def _distinct(items: list[CandidateItem]) -> list[CandidateItem]:
    first: dict[str, CandidateItem] = {}
    for item in items:
        first.setdefault(item.item_id, item)
    return list(first.values())


@strict
class Interest:
    """A topic, and how often it occurs in all of the user's history."""

    topic: str
    count: int


@strict
class Request:
    """A row of the registered model's input; `RankingModel` describes its columns."""

    history: list[SeenItem] = field(default_factory=list)
    candidates: Annotated[list[CandidateItem], AfterValidator(_distinct)] = field(default_factory=list)
    """Of those with one item_id the first."""
    profile: dict[str, str | None] = field(default_factory=dict)
    now: Time = field(default_factory=lambda: datetime.now(UTC))
    interests: list[Interest] = field(default_factory=list)


def read_request(row: Mapping[Any, Any], source: str) -> Request:
    """Return the request in `row` of a data frame; null is what was left out.

    Raises DataError, naming `source` and the place of each fault.
    """
    values = {key.name: _plain(row.get(key.name)) for key in fields(Request)}
    with faults_as(DataError):
        return parse(Request, {name: value for name, value in values.items() if value is not None}, source)


def _plain(value: Any) -> Any:
    """Return `value` with lists for MLflow's arrays, and None for pandas' NaN."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value

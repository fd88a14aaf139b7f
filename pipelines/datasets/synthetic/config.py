"""Configuration of the generated log."""

from typing import Annotated

from pydantic import Field, PositiveInt

from components.shared.config import Seed, Share, strict
from components.shared.times import parse_time


@strict
class SampleConfig:
    """Size and shape of a generated log."""

    users: PositiveInt = 1200
    """Users."""
    items: PositiveInt = 4000
    """Items of the catalogue."""
    items_per_user: Annotated[float, Field(ge=1, le=1000)] = 14.0
    """Mean number of items that a user meets, some of them again."""
    days: Annotated[PositiveInt, Field(le=36500)] = 60
    """Days of the log."""
    start: str = "2025-01-01"
    """First day (ISO 8601)."""
    new_item_share: Share = 0.4
    """Share of the items that are launched during the log; hardly anybody meets them before."""
    shuffle_titles: bool = False
    """Give each item the title of another: what a model gains by reading titles must then be lost."""
    exposures: bool = True
    """Also write what an online system showed."""
    interest_share: Share = 0.6
    """How much of a user's tastes the profile shows."""
    dirty_share: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Faulty rows added to the events, as a share, in each way that the quarantine knows."""
    chunk_users: PositiveInt = 20_000
    """Users generated at once, which bounds memory."""
    seed: Seed = 0
    """Same seed, same log."""

    def __post_init__(self) -> None:
        parse_time("start", self.start)

"""Facts of an item at the time of a request: sales before that day, age, days since the last sale."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from components.retrieve.interactions import Ints

DAY = 24 * 60 * 60 * 1_000_000
"""Microseconds."""
PERIODS = (30, 90, 365)
"""Days before the request whose sales are one fact each."""
NAMES = (*(f"sales in {days} days" for days in PERIODS), "age", "since last sale", "unsold")


@dataclass(frozen=True)
class Sales:
    """The train events as sorted numbers, item * `span` + day since `first_day`."""

    events: Ints
    first_day: int
    span: int

    @classmethod
    def of(cls, items: Ints, times: Ints) -> "Sales":
        """Return the sales of `items` at `times` (microseconds)."""
        days = times // DAY
        first_day = int(days.min()) if len(days) else 0
        days = days - first_day
        span = int(days.max(initial=0)) + 2
        return cls(np.sort(items * span + days), first_day, span)

    def facts(self, items: Ints, times: Ints) -> npt.NDArray[np.float32]:
        """Return facts of `items` [rows, n] before the days of `times`, [rows, n, NAMES].

        Counts and days as log(1 + x); sales of the request's own day, or later, are unknown to it.
        """
        day = np.maximum(times // DAY - self.first_day, 0)[:, None]
        base = items * self.span
        before, begin = self._rank(base, day), self._rank(base, 0)
        sales = [before - self._rank(base, np.maximum(day - period, 0)) for period in PERIODS]
        is_sold = before > begin
        padded = np.append(self.events, 0)
        first = padded[np.where(is_sold, begin, 0)] - base
        last = padded[np.where(is_sold, before - 1, 0)] - base
        ages = [np.where(is_sold, day - when, 0) for when in (first, last)]
        facts = [*(np.log1p(column) for column in (*sales, *ages)), ~is_sold]
        return np.stack(facts, axis=-1).astype(np.float32)

    def _rank(self, base: Ints, day: Ints | int) -> Ints:
        return np.searchsorted(self.events, base + np.minimum(day, self.span - 1))

"""Segments: users with a similar profile, who get the same popular items while they have no history."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from components.retrieve.interactions import NO_SEGMENT, Ints

AGE_BAND = 10  # years


@dataclass(frozen=True)
class Segments:
    """The combinations of some profile columns' values; a segment is a row's number."""

    known: pd.DataFrame

    @classmethod
    def of(cls, profiles: pd.DataFrame, by: Sequence[str]) -> "Segments":
        """Return the segments of `profiles` by the columns `by`."""
        known = _banded(profiles, by).drop_duplicates().dropna(how="all")
        return cls(known.sort_values(list(by)).reset_index(drop=True) if by else pd.DataFrame())

    def numbers(self, profiles: pd.DataFrame) -> Ints:
        """Return each profile's segment; NO_SEGMENT if it is empty, or unlike all others."""
        by = list(self.known.columns)
        if not by or self.known.empty:
            return np.full(len(profiles), NO_SEGMENT)
        numbered = self.known.assign(segment=np.arange(len(self.known)))
        found = _banded(profiles, by).merge(numbered, how="left", on=by)["segment"]
        return found.fillna(NO_SEGMENT).to_numpy(np.int64)


def _banded(profiles: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the columns `by` as texts, null where nothing is known; ages by their decade."""
    columns = {}
    for name in by:
        values = profiles.get(name, pd.Series(None, profiles.index, dtype=object))
        if name == "age":
            # As one type: a column with nulls holds floats, whose texts are others.
            values = pd.to_numeric(values, errors="coerce").astype(float) // AGE_BAND * AGE_BAND
        columns[name] = values.map(str, na_action="ignore").astype(object).where(values.notna(), None)
    return pd.DataFrame(columns, index=profiles.index)

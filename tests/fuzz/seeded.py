"""Seeded mutations of texts and of nested values."""

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import HealthCheck, settings

SEEDED = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


def mutated_text(text: str, seed: int, junk: Sequence[str]) -> str:
    """Return `text` with one to three pieces cut out, doubled, or replaced by some of `junk`."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 3)):
        start = chance.randrange(len(text) + 1)
        piece = text[start : start + chance.choice((0, 1, 6, 40))]
        new = chance.choice((chance.choice(junk), chance.choice(junk), "", piece + piece))
        text = text[:start] + new + text[start + len(piece) :]
    return text


def mutated_value(value: Any, seed: int, junk: Sequence[Any]) -> Any:
    """Return a copy of the nested `value` with one to three inner values dropped, doubled or replaced."""
    chance, value = random.Random(seed), copy.deepcopy(value)
    for _ in range(chance.randint(1, 3)):
        holder, key = chance.choice(list(_inner(value)) or [(value, None)])
        if key is None:
            return value
        how = chance.randrange(4)
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = copy.deepcopy(chance.choice(junk))
    return value


def _inner(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield holder and key of everything within `value`."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _inner(value[key])

"""Features of every item of a prompt's pool: one function for training, evaluation and serving."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

from components.retrieve.blend import counts, sales
from components.retrieve.blend.pool import pooled
from components.retrieve.blend.sales import Sales
from components.retrieve.interactions import NO_VALUE, Histories, Ints
from components.retrieve.models.co_occurrence.pairs import entries
from components.retrieve.models.co_occurrence.voting import recency_weights
from components.retrieve.ranking import Scorer

LATEST, DECAY = 10, 0.8
"""Items of the history that an item is compared with, and the weight of each relative to the next later."""
POPULARITIES = ("popularity", "popularity in brand", "popularity in category")
ITEM_FACTS = ("text", "text, last", "brand", "brand, last", "category", "category, last", *POPULARITIES)
ROWS = 16


@dataclass(frozen=True)
class ItemSide:
    """What is known of items, the same for every user.

    A partition of users is joined with it.

    `vectors` [items, dim] are unit vectors of the items' texts; `brands` and `categories` [items] are
    numbers, NO_VALUE where nothing is known; `counts` are `co_occurrences`, `popularity` [items] is of items.
    """

    models: Mapping[str, Scorer]
    vectors: npt.NDArray[np.float32]
    brands: Ints
    categories: Ints
    counts: tuple[sparse.csr_array, sparse.csr_array]
    popularity: Ints
    sales: Sales

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names; facts of the request's time come last."""
        return (*self.models, *counts.NAMES, *ITEM_FACTS, *sales.NAMES)

    @cached_property
    def popularities(self) -> npt.NDArray[np.float64]:
        """POPULARITIES of every item, [items, 3].

        As log(1 + x); within a brand or category, less that of all its items.
        """
        own = np.log1p(self.popularity)
        of_kinds = [np.log1p(_totals(values, self.popularity)) for values in (self.brands, self.categories)]
        return np.stack([own, *(own - of_kind for of_kind in of_kinds)], axis=-1)


@dataclass(frozen=True)
class Pool:
    """`items` [rows, width], NO_ITEM behind the last; `features` [rows, width, features] float32."""

    items: Ints
    features: npt.NDArray[np.float32]


def pool_features(side: ItemSide, histories: Histories, times: Ints, size: int) -> Pool:
    """Return the pools of `size` best items of each model, with features at `times`."""
    items, scores = pooled(list(side.models.values()), histories, size)
    known = np.maximum(items, 0)
    parts = (
        scores,
        counts.count_features(side.counts, histories, known),
        _item_facts(side, histories.last(LATEST), known),
        side.sales.facts(known, times),
    )
    return Pool(items, np.concatenate(parts, axis=-1).astype(np.float32, copy=False))


def _item_facts(side: ItemSide, histories: Histories, items: Ints) -> npt.NDArray[np.floating]:
    """Return ITEM_FACTS of `items` [rows, n] beside their histories, [rows, n, facts]."""
    columns = []
    weighted = counts.votes_of(histories, len(side.vectors), recency_weights(histories, DECAY))
    latest = counts.votes_of(histories.last(1), len(side.vectors))
    for votes in (weighted, latest):
        columns.append(_similarity(votes @ side.vectors, side.vectors, items))
    for values in (side.brands, side.categories):
        holders = _incidence(values)
        for votes in (weighted, latest):
            shared = entries(votes @ holders, np.maximum(values[items], 0))
            columns.append(np.where(values[items] == NO_VALUE, 0, shared))
    return np.concatenate([np.stack(columns, axis=-1), side.popularities[items]], axis=-1)


def _similarity(users: npt.NDArray, vectors: npt.NDArray, items: Ints) -> npt.NDArray[np.float32]:
    """Return the products of users' vectors [rows, dim] with those of their items, [rows, n]."""
    products = np.empty(items.shape, np.float32)
    for start in range(0, len(items), ROWS):  # a block's vectors fit in the processor's caches
        rows = slice(start, start + ROWS)
        products[rows] = np.matmul(vectors[items[rows]], users[rows, :, None])[..., 0]
    return products


def _totals(values: Ints, counts: Ints) -> Ints:
    """Return each item's total of `counts` over all items of its value.

    An item without a value has its own count.
    """
    of_values = counts @ _incidence(values)
    return np.where(values == NO_VALUE, counts, of_values[np.maximum(values, 0)])


def _incidence(values: Ints) -> sparse.csr_array:
    """Return [items, values] with 1 where an item has a value."""
    known = np.flatnonzero(values != NO_VALUE)
    shape = (len(values), int(values.max(initial=0)) + 1)
    return sparse.csr_array((np.ones(len(known), np.float32), (known, values[known])), shape=shape)

"""Conditional logit: the softmax of a weighted sum of features over each pool (McFadden 1974)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from components.retrieve.blend.features import Pool
from components.retrieve.interactions import Ints
from components.shared.logs import logger

log = logger("retrieve")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """Pools that hold their prompt's label, item after item.

    `features` [entries, features]; `start` [pools] is the first entry of each, `labels` [pools] that of the
    label.
    """

    features: npt.NDArray[np.float32]
    start: Ints
    labels: Ints

    @classmethod
    def of(cls, pool: Pool, labels: Ints) -> "Examples":
        """Return the rows of `pool` that hold their item of `labels` [rows]."""
        is_label = (pool.items == labels[:, None]) & (pool.items >= 0)
        rows, columns = np.nonzero(is_label)
        is_item = pool.items[rows] >= 0
        lengths = is_item.sum(1)
        start = np.cumsum(lengths) - lengths
        # Items stand before the padding, so a column counts the entries before it.
        return cls(pool.features[rows][is_item], start, start + columns)

    @classmethod
    def join(cls, parts: Sequence["Examples"]) -> "Examples":
        """Return the examples of all `parts`."""
        shifts = np.cumsum([0, *(len(part.features) for part in parts)])[:-1]
        return cls(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.start + shift for part, shift in zip(parts, shifts, strict=True)]),
            np.concatenate([part.labels + shift for part, shift in zip(parts, shifts, strict=True)]),
        )


def fit(parts: Sequence[Examples], features: int, l2: float) -> Floats:
    """Return the weights [features] of the first `features`, by L-BFGS.

    A penalty, `l2` times the squared distance of the standardised features' weights, draws them to the first
    feature alone, a model's score: what few examples cannot tell stays that model's order.
    """
    if not any(len(part.labels) for part in parts):
        log.warning("blend: no train prompt has its label in its pool; the order is that of the first model")
        return np.eye(features)[0]
    examples = Examples.join(parts)
    values = examples.features[:, :features].astype(np.float64)
    scale = values.std(0)
    scale[scale < 1e-9] = np.inf  # a constant tells nothing
    values /= scale
    prior = np.eye(features)[0] * np.where(scale < np.inf, scale, 0)
    pools = len(examples.start)
    lengths = np.diff(examples.start, append=len(values))
    is_label = np.zeros(len(values))
    is_label[examples.labels] = 1.0

    def loss(weights: Floats) -> tuple[float, Floats]:
        logits = values @ weights
        logits -= np.repeat(np.maximum.reduceat(logits, examples.start), lengths)
        odds = np.exp(logits)
        total = np.add.reduceat(odds, examples.start)
        away = weights - prior
        value = np.log(total).sum() - logits[examples.labels].sum() + l2 * away @ away
        residual = odds / np.repeat(total, lengths) - is_label
        return value / pools, (values.T @ residual + 2 * l2 * away) / pools

    return minimize(loss, prior, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x / scale

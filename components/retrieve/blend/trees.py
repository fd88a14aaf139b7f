"""Boosted trees that put a logit's best items in a new order (LightGBM; LambdaMART, Burges 2010)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from components.retrieve.blend.features import Pool
from components.retrieve.blend.logit import Examples, Floats
from components.shared.logs import logger

log = logger("retrieve")
Scores = npt.NDArray[np.float32]

BEST = 100
"""Items of each pool that are put in order; the rest stay behind them in the logit's."""
ROUNDS = 150
PARAMETERS = {
    "objective": "lambdarank",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 300,
    "feature_fraction": 0.7,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
"""Small trees: what the logit leaves to learn is little, and its labels are few."""


@dataclass(frozen=True)
class Trees:
    """A model in LightGBM's text format.

    It reads a logit's features and how far its score lies below the pool's best.
    """

    text: str

    @cached_property
    def _booster(self) -> Any:
        import lightgbm

        return lightgbm.Booster(model_str=self.text)

    def rescored(self, pool: Pool, scores: Scores, features: int) -> Scores:
        """Return the logit's `scores` [rows, width], of the BEST new ones above all others.

        `features` is the number of features that the logit has; -inf stays.
        """
        if not scores.size:
            return scores
        order = np.lexsort((pool.items, -scores), axis=1)[:, :BEST]
        best = np.take_along_axis(scores, order, 1)
        rows, columns = np.nonzero(best > -np.inf)
        found = np.full(best.shape, np.finfo(np.float32).max)
        below = best[rows, columns] - best[rows, 0]
        known = pool.features[rows, order[rows, columns], :features]
        if len(rows):
            found[rows, columns] = self._booster.predict(np.column_stack([known, below]), num_threads=1)
        lift = best[:, 0] - found.min(1)
        raised = scores.copy()
        raised[rows, order[rows, columns]] = found[rows, columns] + lift[rows]
        return raised


def fit(parts: Sequence[Examples], weights: Floats, seed: int) -> Trees | None:
    """Return trees over pools whose label is among the logit's BEST; None for too few.

    `weights` are the logit's.
    """
    import lightgbm

    if not any(len(part.labels) for part in parts):
        return None
    examples = Examples.join(parts)
    features = examples.features[:, : len(weights)]
    scores = features @ weights
    lengths = np.diff(examples.start, append=len(scores))
    pools = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((-scores, pools))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(examples.start, lengths)
    is_learnt = place[examples.labels] < BEST
    kept = order[(place[order] < BEST) & is_learnt[pools[order]]]
    if not len(kept):
        return None
    is_label = np.zeros(len(scores))
    is_label[examples.labels] = 1
    below = scores - np.repeat(np.maximum.reduceat(scores, examples.start), lengths)
    data = lightgbm.Dataset(
        np.column_stack([features[kept], below[kept]]),
        label=is_label[kept],
        group=np.minimum(lengths, BEST)[is_learnt],
    )
    booster = lightgbm.train({**PARAMETERS, "seed": seed, "num_threads": 1}, data, ROUNDS)
    if not booster.feature_importance().any():
        log.warning(
            "%d prompts with a retrieved label are too few for trees to split: the logit's order stays",
            is_learnt.sum(),
        )
        return None
    return Trees(booster.model_to_string())

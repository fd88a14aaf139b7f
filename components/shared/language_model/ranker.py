"""How a model ranks, written into its config.json: GRPO, evaluation and serving read it there."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from components.shared.config import Answers
from components.shared.errors import ModelError
from components.shared.prompting.table import PromptRow

KEY = "ranker"
"""Key of config.json; a model without it generates its answers."""

Scores = Sequence[float]


@dataclass(frozen=True)
class Ranker:
    """Candidates' logits are `scale` times the model's score plus `fuse` times the retriever's."""

    answers: Answers = "generate"
    scale: float = 1.0
    fuse: float = 0.0

    def __post_init__(self) -> None:
        if self.answers not in get_args(Answers):
            raise ValueError(f"answers {self.answers!r} is not one of {', '.join(get_args(Answers))}")

    @classmethod
    def read(cls, model: Path) -> "Ranker":
        """Return the ranker of the model in a folder. Raises ModelError: one of another form."""
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        try:
            return cls(**config.get(KEY, {}))
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"{model / 'config.json'}: its '{KEY}' is of another version of the project ({error})"
            ) from error

    @classmethod
    def of(cls, model: Any) -> "Ranker":
        """Return the ranker of a loaded model."""
        return cls(**getattr(model.config, KEY, {}))

    def write(self, model: Any) -> None:
        """Write it into the configuration of `model`, which is saved with its weights."""
        setattr(model.config, KEY, asdict(self))

    def logits(self, scores: Any, retriever: Any) -> Any:
        """Return the candidates' logits, given arrays or tensors of scores."""
        return self.scale * scores + self.fuse * retriever

    def log_likelihood(self, scores: Any, retriever: Scores, shares: Scores) -> Any:
        """Return the log-likelihood of the labels' `shares` under a softmax over the candidates.

        `scores` are a tensor, (candidates,), in whose dtype and on whose device it is computed.
        """
        logits = self.logits(scores, scores.new_tensor(retriever))
        return (scores.new_tensor(shares) * logits.log_softmax(0)).sum()

    def all_logits(self, scores: Sequence[Scores], retriever: Sequence[Scores]) -> list[list[float]]:
        """Return the logits of several prompts' candidates."""
        return [
            [self.logits(*pair) for pair in zip(model, order, strict=True)]
            for model, order in zip(scores, retriever, strict=True)
        ]

    def fitted(
        self,
        scores: Sequence[Scores],
        retriever: Sequence[Scores],
        labels: Sequence[Scores],
        least: float = 0.0,
    ) -> "Ranker":
        """Return the ranker with the weights that explain `labels` best (conditional logit).

        Each list has one row per prompt and in it one value per candidate; `labels` are shares that sum to
        1. Weights are not negative; the model's part has a standard deviation of at least `least`. Without
        prompts the retriever's order stays.
        """
        if not scores:
            return replace(self, scale=0.0, fuse=1.0)
        scale, fuse = _conditional_logit(
            [np.array([model, order], float).T for model, order in zip(scores, retriever, strict=True)],
            [np.array(shares, float) for shares in labels],
            least,
        )
        return replace(self, scale=scale, fuse=fuse)


def target_shares(row: PromptRow) -> list[float]:
    """Return the softmax over the candidates that SFT teaches: a teacher's, or the labels' engagement.

    Labels without any engagement share equally: the stronger ones may not be retrieved.
    """
    if row.teacher:
        odds = np.exp(np.array(row.teacher) - max(row.teacher))
        return (odds / odds.sum()).tolist()
    shares = [0.0] * len(row.candidates)
    weights = [row.gains[row.candidates[number - 1]] for number in row.labels]
    total = sum(weights)
    for number, weight in zip(row.labels, weights, strict=True):
        shares[number - 1] = weight / total if total else 1 / len(row.labels)
    return shares


def _conditional_logit(
    features: Sequence[npt.NDArray[np.float64]], shares: Sequence[npt.NDArray[np.float64]], least: float
) -> tuple[float, float]:
    """Return the weights of two features [prompt][candidate, 2], held by a slight ridge."""
    from scipy.optimize import minimize

    centred = [rows - rows.mean(0) for rows in features]
    deviations = np.concatenate(centred).std(0)
    deviations[deviations < 1e-9] = np.inf  # a constant tells nothing

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        value, gradient = float(weights @ weights), 2 * weights
        for rows, share in zip(centred, shares, strict=True):
            scaled = rows / deviations
            logits = scaled @ weights
            odds = np.exp(logits - logits.max())
            value += float(np.log(odds.sum()) + logits.max() - share @ logits)
            gradient = gradient + scaled.T @ (odds / odds.sum() - share)
        return value, gradient

    found = minimize(loss, np.ones(2), jac=True, method="L-BFGS-B", bounds=[(least, None), (0, None)])
    scale, fuse = (found.x / deviations).tolist()
    return scale, fuse

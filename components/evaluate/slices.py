"""NDCG@10 on the users that recommenders find hard."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from components.evaluate.scores import Scores
from components.evaluate.tables import Catalogue
from components.shared.prompting.table import PromptRow
from data_contracts.evaluation import Slice


def slices(prompts: Sequence[PromptRow], scores: Sequence[Scores], catalogue: Catalogue) -> list[Slice]:
    """Return the slices that hold anybody: users with short histories, and tail items as labels."""
    positions = np.array([prompt.position for prompt in prompts])
    short = int(np.quantile(positions, 1 / 3, method="lower"))
    tail = np.array([catalogue.head.isdisjoint(prompt.label_items) for prompt in prompts])
    parts = [
        ("cold users", f"at most {short} items before the label (shortest third)", positions <= short),
        ("tail items", "no label among the most popular fifth of the catalogue", tail),
    ]
    return [_slice(name, rule, chosen, scores) for name, rule, chosen in parts if chosen.any()]


def _slice(name: str, rule: str, chosen: npt.NDArray[np.bool_], scores: Sequence[Scores]) -> Slice:
    means = {one.name: float(one.values["ndcg@10"][chosen].mean()) for one in scores}
    return Slice(name=name, rule=rule, users=int(chosen.sum()), ndcg_at_10=means)

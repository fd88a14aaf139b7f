"""The pool of a prompt: the union of the best items of every model, with each model's score."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from components.retrieve.interactions import Histories, Ints
from components.retrieve.ranking import NO_ITEM, Scorer, blocks


def pooled(models: Sequence[Scorer], histories: Histories, size: int) -> tuple[Ints, npt.NDArray[np.float32]]:
    """Return items [rows, width] and scores [..., models], each model's `size` best unseen.

    Items are sorted, NO_ITEM behind the last. A score is the log of its softmax over the catalogue.
    """
    parts = [
        _block(models, histories.take(rows), size) for rows in blocks(len(histories), models[0].num_items)
    ]
    width = max((items.shape[1] for items, _ in parts), default=0)
    items = np.full((len(histories), width), NO_ITEM)
    scores = np.zeros((len(histories), width, len(models)), np.float32)
    start = 0
    for part, values in parts:
        rows, columns = slice(start, start + len(part)), slice(part.shape[1])
        items[rows, columns], scores[rows, columns] = part, values
        start += len(part)
    return items, scores


def _block(models: Sequence[Scorer], histories: Histories, size: int) -> tuple[Ints, npt.NDArray[np.float32]]:
    scores = [model.block(histories) for model in models]
    items = union([each.best_unseen(size).items for each in scores])
    known = np.maximum(items, 0)
    return items, np.stack([each.log_softmax(known) for each in scores], -1)


def union(lists: Sequence[Ints]) -> Ints:
    """Return each row's distinct items of `lists`, sorted, then NO_ITEM."""
    items = np.sort(np.concatenate(lists, axis=1), axis=1)
    items[:, 1:][items[:, 1:] == items[:, :-1]] = NO_ITEM
    none = np.iinfo(np.int64).max
    items = np.sort(np.where(items == NO_ITEM, none, items), axis=1)
    width = (items != none).sum(1).max(initial=0)
    return np.where(items == none, NO_ITEM, items)[:, :width]

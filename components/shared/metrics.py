"""Ranking metrics of many lists at once; lists are best first, ranks start at 1.

A list names items by number, -1 after its last; ranks beyond its end are misses. Lists are in order: ties of
scores are broken before. Definitions: Recall, NDCG with linear gains (Järvelin & Kekäläinen 2002),
reciprocal rank and average precision as ranx has them; ILAD as in Zhang & Hurley 2008; novelty as
self-information, Zhou et al. 2010; the Gini index over the exposure of all items.
"""

import math
from collections.abc import Hashable, Iterable, Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_BLOCK = 1 << 12
"""Lists that ILAD compares at a time, so that memory stays flat."""


@dataclass(frozen=True)
class Judged:
    """Ranked lists held against their labels.

    A repeat of an item is a miss, so all metrics stay in [0, 1]. A list without labels scores 0 in every
    metric. `labels` [list] counts labels, retrieved or not.
    """

    gains: Floats
    """[list, rank]: the gain of the label at that rank, 0 for a miss."""
    hits: Bools
    """[list, rank]: whether a label stands there, also one of gain 0."""
    ideal: Floats
    """[list, number]: the gains of all labels, highest first, then 0."""
    labels: Ints

    def recall(self, k: int) -> Floats:
        """Return the share of all labels, however many, among the first k, [list]."""
        return self.hits[:, :k].sum(1) / self.labels.clip(1)

    def hit_rate(self, k: int) -> Floats:
        """Return 1 where at least one label is among the first k, [list]."""
        return (self.hits[:, :k].sum(1) > 0).astype(np.float64)

    def ndcg(self, k: int) -> Floats:
        """Return DCG@k / ideal DCG@k with discount 1 / log2(rank + 1), [list]."""
        found, ideal = _dcg(self.gains[:, :k]), _dcg(self.ideal[:, :k])
        return np.divide(found, ideal, out=np.zeros_like(found), where=ideal > 0)

    def reciprocal_rank(self, k: int) -> Floats:
        """Return 1 / rank of the first label, 0 beyond k, [list]; mean: MRR@k."""
        hits = self.hits[:, :k]
        return np.where(hits.any(1), 1 / (hits.argmax(1) + 1), 0.0) if hits.size else np.zeros(len(hits))

    def average_precision(self, k: int) -> Floats:
        """Return the average precision of the first k, over all labels, [list]; mean: MAP@k."""
        hits = self.hits[:, :k]
        precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
        return (precision * hits).sum(1) / np.maximum(self.labels, 1)


def judge(ranked: Ints, labels: Ints, gains: Floats | None = None) -> Judged:
    """Return `ranked` [list, rank] held against `labels` [list, any number], both -1 where empty.

    `gains` [list, number] (not negative) are the labels' gains, 1 without. A label named twice counts once,
    with its first gain.
    """
    counted = (labels >= 0) & ~_repeats(labels)
    weights = np.where(counted, 1.0 if gains is None else gains, 0.0)
    listed = (ranked >= 0) & ~_repeats(ranked)
    hits = np.zeros(ranked.shape, bool)
    found = np.zeros(ranked.shape)
    for label, weight, is_label in zip(labels.T, weights.T, counted.T, strict=True):
        at = listed & is_label[:, None] & (ranked == label[:, None])
        hits |= at
        found += at * weight[:, None]
    return Judged(gains=found, hits=hits, ideal=-np.sort(-weights, axis=1), labels=counted.sum(1))


def numbered(
    ranked: Sequence[Sequence[Hashable]], labels: Sequence[Sequence[Hashable]], known: Iterable[Hashable] = ()
) -> tuple[Ints, Ints]:
    """Return both tables as arrays [list, longest] of item numbers, -1 after a list's last.

    The `known` items have the numbers from 0 on, others follow.

    >>> numbered([["tea", "jazz"], ["tea"]], [["jazz"], ["chess"]])
    (array([[ 0,  1],
           [ 0, -1]]), array([[1],
           [2]]))
    """
    numbers = {item: number for number, item in enumerate(known)}
    first, second = (
        padded([[numbers.setdefault(item, len(numbers)) for item in items] for items in table], -1)
        for table in (ranked, labels)
    )
    return first, second


def padded(rows: Sequence[Sequence[float]], empty: float) -> npt.NDArray:
    """Return rows of any lengths as one array [row, longest], `empty` after the last."""
    lengths = np.array([len(row) for row in rows], np.int64)
    kind = np.int64 if isinstance(empty, int) else np.float64
    table = np.full((len(rows), int(lengths.max(initial=0))), empty, kind)
    flat = [value for row in rows for value in row]
    table[np.arange(table.shape[1]) < lengths[:, None]] = np.array(flat, kind)
    return table


@dataclass(frozen=True)
class TagSets:
    """The tags of every item: item i has `tags[start[i] : start[i + 1]]`, sorted."""

    start: Ints
    tags: Ints

    @classmethod
    def of(cls, sets: Iterable[Iterable[str]]) -> "TagSets":
        """Return the sets, one per item, with tags by number."""
        numbers: dict[str, int] = {}
        rows = [sorted({numbers.setdefault(tag, len(numbers)) for tag in tags}) for tags in sets]
        start = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
        return cls(start, np.array([tag for row in rows for tag in row], np.int64))

    def shared(self, first: Ints, second: Ints) -> Ints:
        """Return how many tags each pair of items shares, [pair]."""
        width = 1 + int(self.tags.max(initial=0))
        held = np.repeat(np.arange(len(self.start) - 1), np.diff(self.start)) * width + self.tags
        if not len(held):
            return np.zeros(len(first), np.int64)
        sizes = self.start[first + 1] - self.start[first]
        pair = np.repeat(np.arange(len(first)), sizes)
        within = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        asked = second[pair] * width + self.tags[self.start[first][pair] + within]
        places = np.minimum(np.searchsorted(held, asked), len(held) - 1)
        return np.bincount(pair[held[places] == asked], minlength=len(first))

    def distances(self, first: Ints, second: Ints) -> Floats:
        """Return the Jaccard distances of pairs, [pair]; 0 if neither has tags."""
        both = self.shared(first, second)
        sizes = np.diff(self.start)
        either = sizes[first] + sizes[second] - both
        return np.where(either > 0, 1 - both / np.maximum(either, 1), 0.0)


def ilad(lists: Ints, tags: TagSets) -> Floats:
    """Return each list's mean pairwise Jaccard distance of its items' tags (intra-list diversity).

    In [0, 1]; lists [list, rank] of fewer than two items have 0.
    """
    totals = np.zeros(len(lists))
    one, other = np.triu_indices(lists.shape[1], 1)
    for begin in range(0, len(lists), _BLOCK):
        first, second = (lists[begin : begin + _BLOCK, ranks] for ranks in (one, other))
        listed = np.nonzero((first >= 0) & (second >= 0))
        distances = tags.distances(first[listed], second[listed])
        totals[begin : begin + _BLOCK] = np.bincount(listed[0], distances, minlength=len(first))
    return totals / _pairs(lists)


def ilad_of_vectors(lists: Ints, vectors: Floats) -> Floats:
    """Return each list's mean pairwise cosine distance of its items' vectors [item, dim].

    In [0, 2]. Lists of fewer than two items have 0; a zero vector is at distance 1 to all.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    totals = np.zeros(len(lists))
    for begin in range(0, len(lists), _BLOCK):
        block = lists[begin : begin + _BLOCK]
        listed = unit[np.maximum(block, 0)] * (block >= 0)[..., None]
        # The sum over pairs of u·v is half of |sum of all|² less the sum of all |u|².
        similar = ((listed.sum(1) ** 2).sum(1) - (listed**2).sum((1, 2))) / 2
        count = (block >= 0).sum(1)
        totals[begin : begin + _BLOCK] = count * (count - 1) / 2 - similar
    return totals / _pairs(lists)


def list_mean(lists: Ints, values: Floats) -> Floats:
    """Return each list's mean of `values` [item], [list]; 0 for an empty list.

    Of self-information it is the list's novelty, of train counts its popularity (ARP, Yin et al. 2012).
    """
    listed = lists >= 0
    sums = (values[np.maximum(lists, 0)] * listed).sum(1) if len(values) else np.zeros(len(lists))
    return sums / np.maximum(listed.sum(1), 1)


def coverage(lists: Ints, num_items: int) -> float:
    """Return the share of the catalogue that stands in at least one list."""
    return len(np.unique(lists[lists >= 0])) / num_items


def gini(lists: Ints, num_items: int) -> float:
    """Return the Gini index of how often items are listed: 0 equally, 1 one alone."""
    counts = np.sort(np.bincount(lists[lists >= 0], minlength=num_items))
    if not counts.any():
        return 0.0
    ranks = 2 * np.arange(1, num_items + 1) - num_items - 1
    return float((ranks * counts).sum() / (num_items * counts.sum()))


def self_information(count: int, total: int, items: int) -> float:
    """Return -log2 of the item's smoothed share of the training interactions, in bits.

    Laplace smoothing (one pseudo-interaction per item) keeps unseen items finite.
    """
    return -math.log2((count + 1) / (total + items))


def set_ilad(tags: Sequence[Set[str]]) -> float:
    """Return `ilad` of one list, given its items' tags."""
    return float(ilad(np.arange(len(tags))[None], TagSets.of(tags))[0])


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean; 0 for no values."""
    return sum(values) / len(values) if values else 0.0


def _dcg(gains: Floats) -> Floats:
    return (gains / np.log2(np.arange(2, gains.shape[1] + 2))).sum(1)


def _pairs(lists: Ints) -> Floats:
    count = (lists >= 0).sum(1)
    return np.maximum(count * (count - 1) / 2, 1)


def _repeats(rows: Ints) -> Bools:
    """Return whether each entry stands in its row before."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, 1)
    repeated = np.zeros(rows.shape, bool)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    return repeated

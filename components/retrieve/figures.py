"""Figures of retrieval: sums over one partition's queries, which add up, and means of them."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from components.retrieve.candidates.retriever import Candidates
from components.retrieve.interactions import Bools, Ints, Queries
from components.retrieve.ranking import RankedLists, ndcg, recall

Sums = Counter[str]
"""Sums by name, such as "test cold" or "test recall@10 sasrec"."""
ACCURACY_CUTS = (5, 10)
CEILING, FIRST_LABEL = "ceiling", "first label"


@dataclass(frozen=True, kw_only=True)
class SplitFigures:
    """Figures of one split's queries and candidates."""

    users: int  # queries, one per user unless train has all positions
    labels: float = 1.0  # per query
    cold: int = 0  # queries with an empty history
    new_items: int = 0  # candidates that their models' train part does not hold
    filled: int = 0  # candidates by popularity, because the models recommended too few
    unlisted: int | None = None  # queries without exposures by the label's time; None: none are used
    short: int = 0  # queries with too few candidates, because the catalogue has no more
    ceilings: dict[int, float] = field(default_factory=dict)  # N -> recall of the first N candidates
    first_labels: dict[int, float] = field(default_factory=dict)  # the same for first labels after a history


def accuracy(lists: RankedLists, queries: Queries) -> dict[str, float]:
    """Return mean Recall and NDCG at 5 and 10; empty without queries."""
    hits, labels = lists.hits(queries), queries.labels.lengths
    metrics = {"recall": recall, "ndcg": ndcg} if len(queries) else {}
    return {
        f"{name}@{k}": float(of(hits, labels, k).mean())
        for name, of in metrics.items()
        for k in ACCURACY_CUTS
    }


def ceilings(hits: Bools, labels: Ints, cuts: tuple[int, ...]) -> dict[int, float]:
    """Return the mean recall of the first N per N of `cuts`; empty without rows."""
    return {n: float(recall(hits, labels, n).mean()) for n in cuts} if len(hits) else {}


def first_label_recall(lists: RankedLists, queries: Queries, cuts: tuple[int, ...]) -> dict[int, float]:
    """Return `ceilings` for the first labels of queries with a history."""
    rows = np.flatnonzero(queries.histories.lengths > 0)
    labels = queries.labels.items[queries.labels.start[rows]]
    return ceilings(lists.items[rows] == labels[:, None], np.ones(len(rows), np.int64), cuts)


def accuracy_sums(split: str, model: str, lists: RankedLists, queries: Queries) -> Sums:
    """Return the sums of `accuracy` over queries."""
    means = accuracy(lists, queries)
    return Counter({f"{split} {metric} {model}": mean * len(queries) for metric, mean in means.items()})


def candidate_sums(split: str, found: Candidates, wanted: int, cuts: tuple[int, ...]) -> Sums:
    """Return the sums over queries from which `split_figures` computes."""
    queries, lists = found.queries, found.lists
    counts, labels = (queries.histories.lengths > 0), queries.labels.lengths
    sums = {
        "users": len(queries),
        "labels": labels.sum(),
        "cold": (~counts).sum(),
        "new_items": found.new,
        "filled": found.filled,
        "short": ((lists.items[:, :wanted] >= 0).sum(1) < wanted).sum(),
    }
    for n, mean in ceilings(lists.hits(queries), labels, cuts).items():
        sums[f"{CEILING} {n}"] = mean * len(queries)
    for n, mean in first_label_recall(lists, queries, cuts).items():
        sums[f"{FIRST_LABEL} {n}"] = mean * counts.sum()
    return Counter({f"{split} {name}": float(value) for name, value in sums.items()})


def split_figures(split: str, sums: Sums, cuts: tuple[int, ...], unlisted: int | None) -> SplitFigures:
    """Return the figures of `split` by the sums of all its partitions."""
    users, cold = int(sums[f"{split} users"]), int(sums[f"{split} cold"])
    counted = {name: int(sums[f"{split} {name}"]) for name in ("new_items", "filled", "short")}
    return SplitFigures(
        users=users,
        labels=sums[f"{split} labels"] / users if users else 0.0,
        cold=cold,
        unlisted=unlisted,
        ceilings={n: sums[f"{split} {CEILING} {n}"] / users for n in cuts} if users else {},
        first_labels={n: sums[f"{split} {FIRST_LABEL} {n}"] / (users - cold) for n in cuts}
        if users > cold
        else {},
        **counted,
    )


def model_figures(split: str, model: str, sums: Sums) -> dict[str, float]:
    """Return the means of `accuracy` by the sums of all partitions; empty without queries."""
    users = sums[f"{split} users"]
    names = (f"{name}@{k}" for name in ("recall", "ndcg") for k in ACCURACY_CUTS)
    return {name: sums[f"{split} {name} {model}"] / users for name in names} if users else {}

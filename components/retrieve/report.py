"""Figures of retrieval: metrics per model, the candidates' recall ceiling, warnings, and the page."""

import math
from dataclasses import dataclass, field

import numpy as np

from components.retrieve.interactions import Bools, Queries
from components.retrieve.ranking import RankedLists, contains, ndcg, recall
from components.shared.reporting.page import Block, Heading, Note, Table, Text, render
from data_contracts.evaluation import ACCURACY_METRICS, CANDIDATE_ORDER

CEILINGS = (10, 20, 50, 100)
CUTS = (5, 10)
TOO_GOOD = 0.95
"""A larger share of labels among the first ten exposed items is flagged …"""
FEW_ITEMS = 100
"""… unless the catalogue is smaller: ten items may well hold that many."""
LEAST_KNOWN = 0.5
"""A smaller share of known exposed items, or of prompts with exposures, is flagged."""


@dataclass(kw_only=True)
class RetrieveReport:
    """Figures of one run; all in [0, 1] unless named otherwise.

    Attributes:
        models: model -> split -> "recall@5" … -> mean over users; CANDIDATE_ORDER is what the prompts get.
        seconds: model -> training on all users, with pre-training and embeddings.
        ceilings: split -> N -> share of labels among the first N candidates.
        first_labels: split -> N -> the same for the first label after a history, which is comparable
            between splits; and the number of such queries.
        labels: split -> labels per query.
        users: split -> queries, at most one per user.
        flags: warnings for people.
        cold: split -> queries with an empty history; the segment's popularity recommends for them.
        unlisted: split -> queries without exposures by the label's time; empty if exposures are not used.
        new_items: split -> candidates that their models' train part does not hold.
        filled: split -> candidates filled in by popularity, because the models recommended too few.
        short: queries with too few candidates, because the catalogue has no more.
    """

    candidates_from: str
    num_candidates: int
    num_items: int
    new_item_slots: int = 0
    folds: int = 2
    models: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    ceilings: dict[str, dict[int, float]] = field(default_factory=dict)
    first_labels: dict[str, tuple[dict[int, float], int]] = field(default_factory=dict)
    labels: dict[str, float] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)
    cold: dict[str, int] = field(default_factory=dict)
    unlisted: dict[str, int] = field(default_factory=dict)
    new_items: dict[str, int] = field(default_factory=dict)
    filled: dict[str, int] = field(default_factory=dict)
    short: int = 0
    flags: list[str] = field(default_factory=list)

    def metrics(self) -> dict[str, float]:
        """Return the figures flat, for the Kubeflow UI: "sasrec_test_ndcg_at_10", "ceiling_test_at_20" …."""
        flat: dict[str, float] = {}
        for model, splits in self.models.items():
            for split, values in splits.items():
                flat |= {
                    f"{model}_{split}_{name.replace('@', '_at_')}": value for name, value in values.items()
                }
        for split, ceilings in self.ceilings.items():
            flat |= {f"ceiling_{split}_at_{n}": value for n, value in ceilings.items()}
        for name in ("users", "cold", "unlisted", "new_items", "filled"):
            flat |= {f"{name}_{split}": float(count) for split, count in getattr(self, name).items()}
        flat["short_lists"] = float(self.short)
        return {name: value for name, value in flat.items() if math.isfinite(value)}


def accuracy(lists: RankedLists, queries: Queries) -> dict[str, float]:
    """Return mean Recall and NDCG at 5 and 10 over the full catalogue; empty without queries."""
    return mean_accuracy(contains(queries.labels, lists.items), queries)


def mean_accuracy(hits: Bools, queries: Queries) -> dict[str, float]:
    """Return `accuracy` by `hits` [rows, depth]: whether each listed item is a label."""
    if not len(queries):
        return {}
    labels = queries.labels.lengths
    return {f"recall@{k}": float(recall(hits, labels, k).mean()) for k in CUTS} | {
        f"ndcg@{k}": float(ndcg(hits, labels, k).mean()) for k in CUTS
    }


def ceilings(hits: Bools, queries: Queries, cuts: tuple[int, ...]) -> dict[int, float]:
    """Return the mean recall of the first N, for each N of `cuts`: the ceiling of any reranking."""
    if not len(queries):
        return {}
    return {n: float(recall(hits, queries.labels.lengths, n).mean()) for n in cuts}


def first_label_recall(
    lists: RankedLists, queries: Queries, cuts: tuple[int, ...]
) -> tuple[dict[int, float], int]:
    """Return `ceilings` for the first labels of queries with a history, and how many queries these are."""
    rows = np.flatnonzero(queries.histories.lengths > 0)
    if not len(rows):
        return {}, 0
    labels = queries.labels.items[queries.labels.start[rows]]
    hits = lists.items[rows] == labels[:, None]
    return {n: float(hits[:, :n].any(1).mean()) for n in cuts}, len(rows)


def gap_flags(report: RetrieveReport, allowed: float) -> list[str]:
    """Return warnings where train and test ceilings differ by more than chance and `allowed`.

    Compared are first labels after a history, since only test has several labels and cold users. Chance is
    three standard errors of the difference of two proportions; `allowed` is a share of the larger ceiling.
    """
    train, train_count = report.first_labels.get("train", ({}, 0))
    test, test_count = report.first_labels.get("test", ({}, 0))
    causes = {  # by whether train is above test
        True: "behaviour has shifted since, or train labels have leaked into the fold models",
        False: "train prompts are harder than those of test: use more folds, or look for a shift in time",
    }
    gaps: dict[bool, list[str]] = {True: [], False: []}
    for n in sorted(train.keys() & test.keys()):
        a, b = train[n], test[n]
        error = math.sqrt(a * (1 - a) / train_count + b * (1 - b) / test_count)
        if abs(a - b) > max(3 * error, allowed * max(a, b)):
            gaps[a > b].append(f"{a:.3f} and {b:.3f} among the first {n}")
    return [
        f"Recall of first labels in train and test: {', '.join(texts)}: {causes[above]}."
        for above, texts in gaps.items()
        if texts
    ]


def candidate_flags(report: RetrieveReport) -> list[str]:
    """Return warnings about no prompts, too few candidates, and unused slots for new items."""
    queries = sum(report.users.values())
    if not queries:
        return ["No user has an interaction to predict: there is no prompt."]
    flags = []
    if report.short:
        flags.append(
            f"{report.short:,} of {queries:,} prompts have fewer than {report.num_candidates} candidates: "
            f"the catalogue has no more items that the user has not seen ({report.num_items:,} in all)."
        )
    if report.new_item_slots and not report.new_items.get("valid", 0) + report.new_items.get("test", 0):
        flags.append(
            "retrieve.new_item_slots found no new item for any valid or test prompt: none resembles a "
            "history by retrieve.content (shared tags or texts), every item has interactions, or all were "
            "created later."
        )
    return flags


def exposure_flags(
    report: RetrieveReport, known_share: float, are_candidates: bool, recall_at_10: float
) -> list[str]:
    """Return warnings about exposures: unknown items, prompts without a list, lists that reveal labels.

    `recall_at_10` is that of test prompts with exposures.
    """
    flags = []
    if known_share < LEAST_KNOWN:
        flags.append(f"Only {known_share:.0%} of the exposed items are in the catalogue.")
    if recall_at_10 > TOO_GOOD and report.num_items > FEW_ITEMS:
        flags.append(
            f"The first 10 exposed items hold {recall_at_10:.0%} of their users' test labels. Either users "
            "choose from nothing else, or the log keeps each click as a list, which reveals the label."
        )
    for split, lacking in report.unlisted.items():
        queries = report.users[split]
        if are_candidates and queries and lacking > (1 - LEAST_KNOWN) * queries:
            flags.append(
                f"{lacking:,} of {queries:,} {split} prompts have no exposures by their label's time: other "
                "models of retrieve.candidates_from, if any, or popularity made their candidates."
            )
    return flags


def page(report: RetrieveReport) -> str:
    """Return the report as one self-contained HTML page."""
    splits = list(report.ceilings)
    cuts = sorted({n for ceiling in report.ceilings.values() for n in ceiling})
    ceiling_rows = [[f"N = {n}", *(_number(report.ceilings[split].get(n)) for split in splits)] for n in cuts]
    columns = [(split, metric) for split in ("valid", "test") for metric in ACCURACY_METRICS]
    model_rows = [
        [
            model,
            *(_number(values.get(split, {}).get(metric)) for split, metric in columns),
            f"{report.seconds[model]:.1f}" if model in report.seconds else "",
        ]
        for model, values in report.models.items()
    ]
    counts = {
        "prompts": report.users,
        "without a history": report.cold,
        "new items": report.new_items,
        "filled": report.filled,
    }
    explanation = (
        "Without a history: candidates are what is popular in the user's segment. New items: candidates "
        "without interactions in the train part, for train prompts in that of the other folds. Filled: "
        "popular candidates, where the models recommended too few."
    )
    if report.unlisted:
        counts["without exposures"] = report.unlisted
        explanation += " Without exposures: there was no list by the label's time."
    count_rows = [
        [split, f"{report.labels[split]:.2f}", *(f"{count[split]:,}" for count in counts.values())]
        for split in splits
    ]
    slots = f", {report.new_item_slots} of them for new items" if report.new_item_slots else ""
    blocks: list[Block] = [Note(flag, "warn") for flag in report.flags] or [Text("No warnings.")]
    blocks += [
        Text(
            f"{report.num_items:,} items. Candidates: {report.num_candidates} per prompt{slots}, from "
            f"{report.candidates_from}, {report.folds} folds. Rankings: full catalogue, seen items excluded."
        ),
        Heading("Recall ceiling of the candidates"),
        Text(f"No reranking of N candidates can have a higher recall. Prompts with too few: {report.short}."),
        Table(["", *splits], ceiling_rows),
        Heading("Models"),
        Text(
            f"The row {CANDIDATE_ORDER} is their own order, before a prompt shuffles it, slots for new items "
            "included. Seconds are those of training on all users."
        ),
        Table(["model", *(f"{split} {metric}" for split, metric in columns), "seconds"], model_rows),
        Heading("Prompts"),
        Text(explanation),
        Table(["split", "labels per prompt", *counts], count_rows),
    ]
    return render("Retrieval", blocks)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"  # noqa: RUF001

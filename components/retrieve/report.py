"""What retrieval reached: figures per model, the recall ceiling of the candidates, and their page."""

import dataclasses
import html
import math
from dataclasses import dataclass, field

import numpy as np

from components.retrieve.interactions import Examples, Histories
from components.retrieve.ranking import Ranked, hits, ndcg, recall
from data_contracts.evaluation import CANDIDATE_ORDER

CEILINGS = (10, 20, 50, 100)
CUTS = (5, 10)
TOO_GOOD = 0.95
"""A larger share of labels among the first ten items of lists from outside is flagged."""
FEW_ITEMS = 100
"""In a smaller catalogue ten items may well hold that many."""
LEAST_KNOWN = 0.5
"""A smaller share of known items, or of prompts with a list from outside, is flagged."""
_STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;color:#1b1f24;margin:24px;max-width:1000px}"
    "h1{font-size:20px}h2{font-size:16px;margin-top:28px}table{border-collapse:collapse}"
    "td,th{padding:4px 12px;border-bottom:1px solid #d0d7de;text-align:right}"
    "td:first-child,th:first-child{text-align:left}"
    ".wide{overflow-x:auto}"
    ".flag{background:#fff8c5;border-left:4px solid #d4a72c;padding:8px 12px}"
)


@dataclass(kw_only=True)
class RetrieveReport:
    """Figures of one run; all in [0, 1] unless named otherwise.

    Attributes:
        models: model -> split -> "recall@5" … -> mean over users; CANDIDATE_ORDER is what the prompts get.
        seconds: model -> of training on all users, with what it learns from (pre-training, embeddings).
        ceilings: split -> N -> share of labels among the first N candidates' order.
        first_labels: split -> N -> the same for the first label of prompts with a history: one question that
            all splits ask alike; and of how many prompts.
        labels: split -> labels a prompt.
        users: split -> rows.
        flags: what a person should look at, in words.
        cold: split -> rows whose history is empty: what is popular among users alike answers them.
        unlisted: split -> rows without a list from outside by the label's time; empty where none is wanted.
        new_items: split -> candidates that the train part that their models saw does not hold.
        filled: split -> candidates that are there because they are popular: the models named no more.
        short: rows with fewer candidates than asked for, because the catalogue has no more.
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
            for split, figures in splits.items():
                for name, value in figures.items():
                    flat[f"{model}_{split}_{name.replace('@', '_at_')}"] = value
        for split, ceilings in self.ceilings.items():
            flat |= {f"ceiling_{split}_at_{n}": value for n, value in ceilings.items()}
            flat[f"users_{split}"] = float(self.users[split])
            flat[f"cold_{split}"] = float(self.cold[split])
            if split in self.unlisted:
                flat[f"unlisted_{split}"] = float(self.unlisted[split])
            flat[f"new_items_{split}"] = float(self.new_items[split])
            flat[f"filled_{split}"] = float(self.filled[split])
        flat["short_lists"] = float(self.short)
        return {name: value for name, value in flat.items() if math.isfinite(value)}


def figures(ranked: Ranked, examples: Examples, num_items: int) -> dict[str, float]:
    """Return mean Recall and NDCG at 5 and 10 over the full catalogue; empty without examples."""
    if not len(examples):
        return {}
    found, labels = hits(ranked, examples.labels, num_items), examples.labels.lengths
    return {f"recall@{k}": float(recall(found, labels, k).mean()) for k in CUTS} | {
        f"ndcg@{k}": float(ndcg(found, labels, k).mean()) for k in CUTS
    }


def ceilings(ranked: Ranked, examples: Examples, num_items: int, at: tuple[int, ...]) -> dict[int, float]:
    """Return the mean recall of the first N, for each N of `at`: the ceiling of any reranking."""
    if not len(examples):
        return {}
    found = hits(ranked, examples.labels, num_items)
    return {n: float(recall(found, examples.labels.lengths, n).mean()) for n in at}


def first_labels(
    ranked: Ranked, examples: Examples, num_items: int, at: tuple[int, ...]
) -> tuple[dict[int, float], int]:
    """Return what `ceilings` does for the first labels of rows with a history, and how many rows that are."""
    rows = np.flatnonzero(examples.histories.lengths > 0)
    asked, labels = examples.take(rows), examples.labels.take(rows)
    first = Histories(labels.items, labels.start, labels.start + 1)
    found = Ranked(ranked.items[rows], ranked.scores[rows])
    return ceilings(found, dataclasses.replace(asked, labels=first), num_items, at), len(rows)


def gap_flags(report: RetrieveReport, allowed: float) -> list[str]:
    """Return a warning where train and test ceilings differ by more than chance and `allowed` at any N.

    Compared are first labels after a history: test may ask for several labels and for users without one,
    train never does. Chance is three standard errors of the difference of two proportions; `allowed` is a
    share of the larger ceiling. A train ceiling far above test hints at a leak, one far below at a shift.
    """
    (train, asked), (test, judged) = (report.first_labels.get(split, ({}, 0)) for split in ("train", "test"))
    causes = {
        True: "behaviour has shifted since, or train labels have leaked into the fold models",
        False: "prompts of training are harder than those of test: more folds, or a shift in time",
    }
    apart: dict[bool, list[str]] = {True: [], False: []}
    for n in sorted(train.keys() & test.keys()):
        a, b = train[n], test[n]
        error = math.sqrt(a * (1 - a) / asked + b * (1 - b) / judged)
        if abs(a - b) > max(3 * error, allowed * max(a, b)):
            apart[a > b].append(f"{a:.3f} and {b:.3f} among the first {n}")
    return [
        f"Of first labels, train and test find {', '.join(gaps)}: {causes[above]}."
        for above, gaps in apart.items()
        if gaps
    ]


def candidate_flags(report: RetrieveReport) -> list[str]:
    """Return warnings about no prompts, too few candidates, and places for new items that nothing fills."""
    rows = sum(report.users.values())
    if not rows:
        return ["No user has an interaction to be asked for: there is no prompt."]
    found = []
    if report.short:
        found.append(
            f"{report.short:,} of {rows:,} prompts have fewer than {report.num_candidates} candidates: the "
            f"catalogue has no more items that the user has not met ({report.num_items:,} in all)."
        )
    if report.new_item_slots and not report.new_items.get("valid", 0) + report.new_items.get("test", 0):
        found.append(
            "retrieve.new_item_slots found no new item for any valid or test prompt: none is like a history "
            "by retrieve.content (tags or texts that they share), every item was met, or all came later."
        )
    return found


def list_flags(report: RetrieveReport, known_share: float, are_candidates: bool, reached: float) -> list[str]:
    """Return warnings about lists from outside: strange items, prompts without a list, lists that tell.

    `reached` is the recall at 10 of test prompts that have a list.
    """
    found = []
    if known_share < LEAST_KNOWN:
        found.append(f"Only {known_share:.0%} of the items in the lists from outside are in the catalogue.")
    if reached > TOO_GOOD and report.num_items > FEW_ITEMS:
        found.append(
            f"The first 10 items of the lists from outside hold {reached:.0%} of their users' test labels. "
            "Either users choose from nothing else, or the log keeps a click as a list of its own, which "
            "tells the label."
        )
    for split, lacking in report.unlisted.items():
        users = report.users[split]
        if are_candidates and users and lacking > (1 - LEAST_KNOWN) * users:
            found.append(
                f"{lacking:,} of {users:,} {split} prompts have no list from outside by their label's time: "
                "other models of retrieve.candidates_from, if any, or popularity made their candidates."
            )
    return found


def page(report: RetrieveReport) -> str:
    """Return the report as one self-contained HTML page."""
    flags = "".join(f"<p class=flag>{html.escape(flag)}</p>" for flag in report.flags)
    flags = flags or "<p>Nothing to warn of.</p>"
    splits = list(report.ceilings)
    cuts = sorted({n for ceiling in report.ceilings.values() for n in ceiling})
    ceiling_rows = [
        [f"N = {n}", *(_number(report.ceilings[split].get(n, math.nan)) for split in splits)] for n in cuts
    ]
    names = [f"{name}@{k}" for k in CUTS for name in ("recall", "ndcg")]
    headers = [f"{split} {name}" for split in ("valid", "test") for name in names]
    model_rows = [
        [
            model,
            *(
                _number(by.get(split, {}).get(name, math.nan))
                for split in ("valid", "test")
                for name in names
            ),
            f"{report.seconds[model]:.1f}" if model in report.seconds else "",
        ]
        for model, by in report.models.items()
    ]
    counted = {
        "prompts": report.users,
        "without a history": report.cold,
        "new items": report.new_items,
        "filled": report.filled,
    }
    told = (
        "Without a history: what is popular among users alike answers. New: candidates that the "
        "train part lacks, for a train prompt that of the other folds. Filled: candidates that are popular, "
        "where the models named too few."
    )
    if report.unlisted:
        counted["without a list"] = report.unlisted
        told += " Without a list: nothing came from outside by the label's time."
    count_rows = [
        [split, f"{report.labels[split]:.2f}", *(f"{counts[split]:,}" for counts in counted.values())]
        for split in splits
    ]
    slots = f", {report.new_item_slots} of them for new items" if report.new_item_slots else ""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Retrieval</title>"
        f"<style>{_STYLE}</style><h1>Retrieval</h1>{flags}"
        f"<p>{report.num_items:,} items. Candidates: {report.num_candidates} a prompt{slots}, from "
        f"{html.escape(report.candidates_from)}, {report.folds} folds. Rankings: full catalogue, seen items "
        "excluded.</p>"
        "<h2>Recall ceiling of the candidates</h2><p>No reranking of N candidates can have a higher "
        f"recall. Lists shorter than asked for: {report.short}.</p>{_table(['', *splits], ceiling_rows)}"
        f"<h2>Models</h2><p>The row {CANDIDATE_ORDER} is their own order, before a prompt shuffles it, "
        "places for new items included. Seconds are of training on all users.</p>"
        f"<div class=wide>{_table(['model', *headers, 'seconds'], model_rows)}</div>"
        f"<h2>Prompts</h2><p>{told}</p>"
        f"{_table(['split', 'labels a prompt', *counted], count_rows)}</html>\n"
    )


def _table(headers: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{html.escape(header)}</th>" for header in headers)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4f}"  # noqa: RUF001

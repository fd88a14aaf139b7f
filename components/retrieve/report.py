"""Figures of retrieval: metrics per model, the candidates' recall ceiling, warnings, and the page."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from components.retrieve.candidates.exposures import Exposures
from components.retrieve.config import RetrieveConfig
from components.retrieve.figures import SplitFigures, accuracy
from components.retrieve.interactions import Interactions, Queries
from components.shared.reporting.page import Block, Heading, Note, Table, Text, render
from data_contracts.evaluation import CANDIDATE_ORDER, ONLINE
from data_contracts.metrics import ACCURACY_METRICS

COUNTS = {
    "prompts": "users",
    "without a history": "cold",
    "new items": "new_items",
    "filled": "filled",
    "without exposures": "unlisted",
}
"""Counts of SplitFigures by their column on the page."""
TOO_GOOD = 0.95
"""A larger share of labels among the first ten exposed items is flagged …"""
FEW_ITEMS = 100
"""… unless the catalogue is smaller: ten items may well hold that many."""
TIME_NOTE = (
    "The two blends differ in facts of time: blend_with_time knows what sold before the request's day, while "
    "the other models rank by the history alone. Compare it with what knows the day as well."
)
LEAST_KNOWN = 0.5
"""A smaller share of known exposed items, or of prompts with exposures, is flagged."""


@dataclass
class RetrieveReport:
    """Figures of one run."""

    config: RetrieveConfig
    num_items: int
    splits: dict[str, SplitFigures] = field(default_factory=dict)
    # model -> split -> "recall@5" … -> mean over users; CANDIDATE_ORDER is what the prompts get
    models: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # of training on all users, per model
    flags: list[str] = field(default_factory=list)  # warnings for people

    @property
    def short(self) -> int:
        """Queries of all splits with too few candidates."""
        return sum(figures.short for figures in self.splits.values())


def flags(report: RetrieveReport, exposures: Exposures | None, data: Interactions) -> list[str]:
    """Return all warnings."""
    exposed = exposure_flags(report, exposures, data.queries("test"))
    return [
        *candidate_flags(report),
        *text_flags(report, data),
        *gap_flags(report, len(data.user_ids)),
        *exposed,
    ]


def text_flags(report: RetrieveReport, data: Interactions) -> Iterator[str]:
    """Yield a warning where a model has no text to read."""
    config = report.config
    fitted = {*config.models, *config.sources, *(config.blend.models if config.has_blend else ())}
    if "sasrec_text" in fitted and not data.is_described.any():
        yield "No item has a title, brand, category or tag: sasrec_text is SASRec, by ids alone."


def gap_flags(report: RetrieveReport, people: int) -> list[str]:
    """Return warnings where train and test recalls differ by more than chance and `ceiling_gap`.

    Compared are first labels after a history, since only test has several labels and cold users. Chance is
    three standard errors of the difference of two proportions; `ceiling_gap` is a share of the larger.
    Prompts of one of the `people` may be alike throughout, so no more than `people` are counted.
    """
    train, test = (report.splits[split] for split in ("train", "test"))
    causes = {  # by whether train is above test
        True: "behaviour has shifted since, or train labels have leaked into the fold models",
        False: "train prompts are harder than those of test: use more folds, or look for a shift in time",
    }
    gaps: dict[bool, list[str]] = {}
    for n in sorted(train.first_labels.keys() & test.first_labels.keys()):
        a, b = train.first_labels[n], test.first_labels[n]
        counts = [min(figures.users - figures.cold, people) for figures in (train, test)]
        error = math.sqrt(a * (1 - a) / counts[0] + b * (1 - b) / counts[1])
        if abs(a - b) > max(3 * error, report.config.ceiling_gap * max(a, b)):
            gaps.setdefault(a > b, []).append(f"{a:.3f} and {b:.3f} among the first {n}")
    return [
        f"Recall of first labels in train and test: {', '.join(texts)}: {causes[above]}."
        for above, texts in gaps.items()
    ]


def candidate_flags(report: RetrieveReport) -> Iterator[str]:
    """Yield warnings about no prompts, too few candidates, and unused slots for new items."""
    config, splits = report.config, report.splits
    queries = sum(figures.users for figures in splits.values())
    if not queries:
        yield "No user has an interaction to predict: there is no prompt."
    elif config.new_item_slots and not splits["valid"].new_items + splits["test"].new_items:
        yield (
            "retrieve.new_item_slots found no new item for any valid or test prompt: none resembles a "
            "history by retrieve.content (shared tags or texts), every item has interactions, or all were "
            "created later."
        )
    if report.short:
        yield (
            f"{report.short:,} of {queries:,} prompts have fewer than {config.num_candidates} candidates: "
            f"the catalogue has no more items that the user has not seen ({report.num_items:,} in all)."
        )


def exposure_flags(report: RetrieveReport, exposures: Exposures | None, test: Queries) -> Iterator[str]:
    """Yield warnings about no exposures, unknown items, prompts without a list, lists that reveal labels."""
    if not exposures:
        if ONLINE in report.config.models:
            yield f"'{ONLINE}' is not compared: the log has no exposures of these users."
        return
    if exposures.known_share < LEAST_KNOWN:
        yield f"Only {exposures.known_share:.0%} of the exposed items are in the catalogue."
    listed = test.take(exposures.latest(test) >= 0)
    held = accuracy(exposures.recommend(listed, 10), listed).get("recall@10", 0.0)
    if held > TOO_GOOD and report.num_items > FEW_ITEMS:
        yield (
            f"The first 10 exposed items hold {held:.0%} of their users' test labels. Either users choose "
            "from nothing else, or the log keeps each click as a list, which reveals the label."
        )
    for split, figures in report.splits.items():
        lacking, queries = figures.unlisted or 0, figures.users
        if ONLINE in report.config.sources and lacking > (1 - LEAST_KNOWN) * queries:
            yield (
                f"{lacking:,} of {queries:,} {split} prompts have no exposures by their label's time: other "
                "models of retrieve.candidates_from, if any, or popularity made their candidates."
            )


def page(report: RetrieveReport) -> str:
    """Return the report as one self-contained HTML page."""
    config, splits = report.config, report.splits
    slots = f", {config.new_item_slots} of them for new items" if config.new_item_slots else ""
    cuts = sorted({n for figures in splits.values() for n in figures.ceilings})
    columns = [(split, metric) for split in ("valid", "test") for metric in ACCURACY_METRICS]
    blocks: list[Block] = [Note(flag, "warn") for flag in report.flags] or [Text("No warnings.")]
    blocks += [
        Text(
            f"{report.num_items:,} items. Candidates: {config.num_candidates} per prompt{slots}, from "
            f"{config.candidates_from}, {config.folds} folds. Rankings: full catalogue, seen items excluded."
        ),
        Heading("Recall ceiling of the candidates"),
        Text(f"No reranking of N candidates can have a higher recall. Prompts with too few: {report.short}."),
        Table(
            ["", *splits],
            [[f"N = {n}", *(_cell(figures.ceilings.get(n)) for figures in splits.values())] for n in cuts],
        ),
        Heading("Models"),
        Text(
            f"The row {CANDIDATE_ORDER} is their own order, before a prompt shuffles it, slots for new items "
            "included. Seconds are those of training on all users."
        ),
        *([Text(TIME_NOTE)] if config.has_blend else []),
        Table(
            ["model", *(f"{split} {metric}" for split, metric in columns), "seconds"],
            [
                [
                    model,
                    *(_cell(values.get(split, {}).get(metric)) for split, metric in columns),
                    _cell(report.seconds.get(model), ".1f"),
                ]
                for model, values in report.models.items()
            ],
        ),
        Heading("Prompts"),
        Text(
            "Without a history: candidates are what is popular in the user's segment. New items: candidates "
            "without interactions in the train part, for train prompts in that of the other folds. Filled: "
            "popular candidates, where the models recommended too few. Without exposures: no list by the "
            "label's time."
        ),
        Table(
            ["split", "labels per prompt", *COUNTS],
            [
                [
                    split,
                    f"{figures.labels:.2f}",
                    *(_cell(getattr(figures, name), ",") for name in COUNTS.values()),
                ]
                for split, figures in splits.items()
            ],
        ),
    ]
    return render("Retrieval", blocks)


def _cell(value: float | None, form: str = ".4f") -> str:
    return "–" if value is None else format(value, form)  # noqa: RUF001

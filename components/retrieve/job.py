"""The step `retrieve`: train every model, list candidates by cross-fitting, rank the full catalogue."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.retrieve import models, report
from components.retrieve.config import RetrieveConfig
from components.retrieve.counts import item_counts
from components.retrieve.interactions import Examples, Histories, Interactions, Ints, load
from components.retrieve.ranking import Ranked, Recommender, fuse
from components.retrieve.report import CEILINGS, RetrieveReport
from components.retrieve.tables import candidates_table, rankings_table
from components.shared import checkpoints
from components.shared.outputs import whole_folder, write_text

JUDGED = ("valid", "test")


@dataclass(frozen=True)
class RetrieveInputs:
    """Folders of the tables SEQUENCES and CATALOGUE; where checkpoints may lie ("" = nowhere)."""

    sequences: Path
    catalogue: Path
    checkpoints: str = ""


@dataclass(frozen=True)
class RetrieveOutputs:
    """Folders of the tables CANDIDATES and RANKINGS, and the HTML page."""

    candidates: Path
    rankings: Path
    report_html: Path


@dataclass(frozen=True)
class _Run:
    """What every stage needs."""

    config: RetrieveConfig
    data: Interactions
    report: RetrieveReport
    checkpoints: Path

    @property
    def depth(self) -> int:
        return max(self.config.ranking_depth, self.config.num_candidates, *CEILINGS)


def run(config: RetrieveConfig, inputs: RetrieveInputs, outputs: RetrieveOutputs) -> RetrieveReport:
    """Write candidates for every prompt and every model's rankings; return the figures.

    valid and test are answered by models trained on every user's train part; the train prompt of a user by
    models that saw nothing of this user, not even to decide when to stop. Labels are never added.

    Raises:
        DataError: unusable tables. TrainingError: a loss that is not a number.
    """
    data = load(inputs.sequences, inputs.catalogue)
    shown = f"{len(data.user_ids):,} users, {data.num_items:,} items"
    print(f"retrieve: {shown}, candidates from {config.candidates_from}", flush=True)
    start = RetrieveReport(
        candidates_from=config.candidates_from,
        num_candidates=config.num_candidates,
        num_items=data.num_items,
    )
    with (
        checkpoints.place(
            inputs.checkpoints, "retrieve", config, inputs.sequences, inputs.catalogue
        ) as saved,
        whole_folder(outputs.candidates) as candidates,
        whole_folder(outputs.rankings) as rankings,
    ):
        context = _Run(config, data, start, saved)
        with rankings_table(rankings, data) as table:
            final = _final_models(context, table)
        with candidates_table(candidates, data) as table:
            _write_train(context, table)
            for split in JUDGED:
                _write_candidates(context, table, split, data.examples(split), final[split], None)
    start.flags = report.gap_flags(start, config.ceiling_gap)
    for flag in start.flags:
        print(f"retrieve: warning: {flag}", flush=True)
    write_text(outputs.report_html, report.page(start))
    return start


def _final_models(context: _Run, table) -> dict[str, Ranked]:
    """Train each model on all users and write its rankings; return split -> the candidates' order."""
    config, data, place = context.config, context.data, context.checkpoints
    examples = {split: data.examples(split) for split in JUDGED}
    kept: dict[str, dict[str, Ranked]] = {split: {} for split in JUDGED}
    evidence: dict[str, float] = {}
    for name in dict.fromkeys((*config.models, *config.sources)):
        recommender, log = models.fit(name, config, data, data.train(), examples["valid"], -1, place)
        context.report.seconds[name] = log.seconds
        evidence[name] = recommender.evidence
        fallback = models.Popularity(data.train(), data.num_items)
        for split, asked in examples.items():
            ranked = answer(recommender, fallback, asked.histories, context.depth)
            if name in config.sources:
                kept[split][name] = ranked
            if name in config.models:
                table.rankings(name, split, asked, ranked.first(config.ranking_depth))
                reached = report.figures(ranked, asked, data.num_items)
                context.report.models.setdefault(name, {})[split] = reached
        shown = context.report.models.get(name, {}).get("test", {})
        reached_text = ", ".join(f"{key} {value:.4f}" for key, value in shown.items())
        print(f"retrieve: {name}: test {reached_text}", flush=True)
    return {split: _blend(context, kept[split], evidence) for split in JUDGED}


def _write_train(context: _Run, table) -> None:
    """Write the candidates of the train prompts, each from models that did not see the user."""
    config, data = context.config, context.data
    asked = data.examples("train")
    fold_of_user = models.user_folds(data.user_ids, config.folds, config.seed)
    items = np.full((len(asked), context.depth), -1, np.int64)
    scores = np.full((len(asked), context.depth), -np.inf, np.float32)
    for fold in range(config.folds):
        rows = np.flatnonzero(fold_of_user[asked.users] == fold)
        if len(rows):
            ranked = _held_out(context, fold_of_user, fold, asked.take(rows))
            items[rows], scores[rows] = ranked.items, ranked.scores
    _write_candidates(context, table, "train", asked, Ranked(items, scores), fold_of_user[asked.users])


def _held_out(context: _Run, fold_of_user: Ints, fold: int, asked: Examples) -> Ranked:
    """Train the candidates' models without the users of `fold` and answer those users' prompts."""
    config, data = context.config, context.data
    others = np.flatnonzero(fold_of_user != fold)
    train_part, valid = data.train(others), data.examples("valid")
    valid = valid.take(fold_of_user[valid.users] != fold)
    fallback = models.Popularity(train_part, data.num_items)
    ranked, evidence = {}, {}
    for name in config.sources:
        recommender, _ = models.fit(name, config, data, train_part, valid, fold, context.checkpoints)
        ranked[name] = answer(recommender, fallback, asked.histories, context.depth)
        evidence[name] = recommender.evidence
    return _blend(context, ranked, evidence)


def answer(recommender: Recommender, fallback: Recommender, histories: Histories, depth: int) -> Ranked:
    """Rank for `histories`; those with nothing in them are answered by `fallback`."""
    cold = np.flatnonzero(histories.lengths == 0)
    if len(cold) == len(histories):
        return fallback.rank(histories, depth)
    ranked = recommender.rank(histories, depth)
    if len(cold):
        instead = fallback.rank(histories.take(cold), depth)
        ranked.items[cold], ranked.scores[cold] = instead.items, instead.scores
    return ranked


def _blend(context: _Run, ranked: dict[str, Ranked], evidence: dict[str, float]) -> Ranked:
    names = context.config.sources
    if len(names) == 1:
        return ranked[names[0]]
    return fuse([ranked[name] for name in names], [evidence[name] for name in names], context.depth)


def _write_candidates(
    context: _Run, table, split: str, asked: Examples, ranked: Ranked, fold: Ints | None
) -> None:
    wanted = context.config.num_candidates
    cut = ranked.first(wanted)
    table.candidates(split, asked, cut, np.full(len(asked), -1) if fold is None else fold)
    figures = context.report
    at = tuple(sorted({*CEILINGS, wanted}))
    figures.ceilings[split] = report.ceilings(ranked, asked, context.data.num_items, at)
    figures.users[split] = len(asked)
    figures.cold[split] = int((asked.histories.lengths == 0).sum())
    figures.short += int((cut.items < 0).any(1).sum())
    met = item_counts(context.data.train(), context.data.num_items) > 0
    figures.new_items[split] = int((~met[cut.items] & (cut.items >= 0)).sum())

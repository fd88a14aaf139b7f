"""The step `retrieve`: train every model, list candidates by cross-fitting, rank the full catalogue."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.retrieve import report
from components.retrieve.candidates.cold_start import read_segments
from components.retrieve.candidates.exposures import load_exposures
from components.retrieve.candidates.generator import CandidateGenerator, Candidates, RetrievalContext
from components.retrieve.config import ONLINE, RetrieveConfig
from components.retrieve.interactions import Examples, Ints, load
from components.retrieve.models import factory as models
from components.retrieve.ranking import Ranked
from components.retrieve.report import CEILINGS, RetrieveReport
from components.retrieve.tables import candidates_table, rankings_table
from components.shared.artifacts import checkpoints
from components.shared.artifacts.outputs import atomic_folder, write_text
from components.shared.errors import DataError
from data_contracts.evaluation import CANDIDATE_ORDER

EVALUATED = ("valid", "test")


@dataclass(frozen=True)
class RetrieveInputs:
    """Folders of the tables of these names; where checkpoints may lie ("" = nowhere)."""

    sequences: Path
    catalogue: Path
    users: Path
    exposures: Path
    checkpoints: str = ""

    @property
    def tables(self) -> tuple[Path, ...]:
        """The folders of all tables."""
        return self.sequences, self.catalogue, self.users, self.exposures


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
    known: RetrievalContext
    report: RetrieveReport
    checkpoints: Path

    @property
    def depth(self) -> int:
        wanted = max(self.config.ranking_depth, self.config.num_candidates, *CEILINGS)
        return min(wanted, self.known.data.num_items)


def run(config: RetrieveConfig, inputs: RetrieveInputs, outputs: RetrieveOutputs) -> RetrieveReport:
    """Write candidates for every prompt and every model's rankings; return the figures.

    valid and test are answered by models trained on every user's train part; the train prompt of a user by
    models that saw nothing of this user, not even to decide when to stop. Labels are never added.

    Raises:
        ConfigError: no such device. DataError: unusable tables. ModelError: no such encoder. TrainingError: a
            loss or a weight that is not a number. OutputError: the disk is full.
    """
    models.device(config)  # before the work that a wrong one would waste
    data = load(inputs.sequences, inputs.catalogue)
    exposures = load_exposures(inputs.exposures, data) if ONLINE in config.wanted else None
    if not exposures and ONLINE in config.sources:
        raise DataError(
            f"{inputs.exposures}: no list of any user with a sequence; bring the table exposures, or take "
            f"'{ONLINE}' out of retrieve.candidates_from"
        )
    known = RetrievalContext(data, read_segments(inputs.users, data.user_ids, config.segments), exposures)
    shown = f"{len(data.user_ids):,} users, {data.num_items:,} items"
    print(f"retrieve: {shown}, candidates from {config.candidates_from}", flush=True)
    start = RetrieveReport(
        candidates_from=config.candidates_from,
        num_candidates=config.num_candidates,
        num_items=data.num_items,
        new_item_slots=config.new_item_slots,
        folds=config.folds,
    )
    with (
        checkpoints.directory(
            inputs.checkpoints, "retrieve", config, *inputs.tables, *encoder(config)
        ) as saved,
        atomic_folder(outputs.candidates) as candidates,
        atomic_folder(outputs.rankings) as rankings,
    ):
        context = _Run(config, known, start, saved)
        with rankings_table(rankings, data) as table:
            final = _final_models(context, table)
        with candidates_table(candidates, data) as table:
            _write_train(context, table)
            for split in EVALUATED:
                _write_candidates(context, table, split, data.examples(split), final[split], None)
    start.flags = _flags(context)
    for flag in start.flags:
        print(f"retrieve: warning: {flag}", flush=True)
    write_text(outputs.report_html, report.page(start))
    return start


def _flags(context: _Run) -> list[str]:
    """Return what a person should look at."""
    config, known, figures = context.config, context.known, context.report
    flags = report.candidate_flags(figures) + report.gap_flags(figures, config.ceiling_gap)
    if known.exposures:
        test = known.data.examples("test")
        listed = test.take(known.exposures.listed(test))
        reached = report.figures(known.exposures.answer(listed, 10), listed, known.data.num_items)
        flags += report.list_flags(
            figures, known.exposures.known_share, ONLINE in config.sources, reached.get("recall@10", 0.0)
        )
    elif ONLINE in config.models:
        flags.append(f"'{ONLINE}' is not compared: the log has no exposures of these users.")
    return flags


def encoder(config: RetrieveConfig) -> list[Path]:
    """Return the encoder's folder where it is one: what lies in it counts for what was computed by it."""
    folder = Path(config.encoder.source).expanduser()
    return [folder] if folder.is_dir() else []


def _final_models(context: _Run, table) -> dict[str, Candidates]:
    """Train each model on all users and write its rankings; return split -> the candidates' order."""
    config, data = context.config, context.known.data
    everybody = np.arange(len(data.user_ids))
    answering = CandidateGenerator(config, context.known, everybody, -1, context.checkpoints)
    examples = {split: data.examples(split) for split in EVALUATED}
    kept: dict[str, dict[str, Ranked]] = {split: {} for split in EVALUATED}
    for name in config.wanted:
        if name == ONLINE and not context.known.exposures:
            continue
        for split, ranked in answering.fit_predict(name, examples, context.depth).items():
            if name in config.sources:
                kept[split][name] = ranked
            if name in config.models:
                shown = ranked if name == ONLINE else answering.filled(ranked, examples[split])
                table.rankings(name, split, examples[split], shown.first(config.ranking_depth))
                reached = report.figures(shown, examples[split], data.num_items)
                context.report.models.setdefault(name, {})[split] = reached
        context.report.seconds[name] = answering.seconds[name]
        if told := context.report.models.get(name, {}).get("test", {}):
            print(f"retrieve: {name}: test " + ", ".join(f"{k} {v:.4f}" for k, v in told.items()), flush=True)
    return {split: answering.candidates(kept[split], examples[split]) for split in EVALUATED}


def _write_train(context: _Run, table) -> None:
    """Write the candidates of the train prompts, each from models that did not see the user."""
    config, data = context.config, context.known.data
    asked = data.examples("train")
    fold_of_user = models.user_folds(data.user_ids, config.folds, config.seed)
    lists, filled, new = Ranked.nothing(len(asked), context.depth), 0, 0
    for fold in range(config.folds):
        rows = np.flatnonzero(fold_of_user[asked.users] == fold)
        if not len(rows):
            continue
        others = np.flatnonzero(fold_of_user != fold)
        answering = CandidateGenerator(config, context.known, others, fold, context.checkpoints)
        held_out = asked.take(rows)
        parts = {
            name: answering.fit_predict(name, {"train": held_out}, context.depth)["train"]
            for name in config.sources
        }
        found = answering.candidates(parts, held_out)
        lists.items[rows], lists.scores[rows] = found.ranked.items, found.ranked.scores
        filled, new = filled + found.filled, new + found.new
    fold_of_row = fold_of_user[asked.users]
    _write_candidates(context, table, "train", asked, Candidates(lists, filled, new), fold_of_row)


def _write_candidates(
    context: _Run, table, split: str, asked: Examples, found: Candidates, fold: Ints | None
) -> None:
    wanted, num_items = context.config.num_candidates, context.known.data.num_items
    cut = found.ranked.first(wanted)
    table.candidates(split, asked, cut, np.full(len(asked), -1) if fold is None else fold)
    figures, at = context.report, tuple(sorted({*CEILINGS, wanted}))
    figures.ceilings[split] = report.ceilings(found.ranked, asked, num_items, at)
    figures.first_labels[split] = report.first_labels(found.ranked, asked, num_items, at)
    figures.labels[split] = float(asked.labels.lengths.mean()) if len(asked) else 0.0
    figures.users[split] = len(asked)
    figures.cold[split] = int((asked.histories.lengths == 0).sum())
    figures.new_items[split], figures.filled[split] = found.new, found.filled
    if context.known.exposures:
        figures.unlisted[split] = int((~context.known.exposures.listed(asked)).sum())
    figures.short += int(((cut.items >= 0).sum(1) < wanted).sum())
    if split in EVALUATED:
        reached = report.figures(found.ranked, asked, num_items)
        figures.models.setdefault(CANDIDATE_ORDER, {})[split] = reached

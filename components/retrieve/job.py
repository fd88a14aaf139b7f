"""The step `retrieve`: train every model, list candidates by cross-fitting, rank the full catalogue."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.retrieve import report
from components.retrieve.candidates.cold_start import read_segments
from components.retrieve.candidates.exposures import load_exposures
from components.retrieve.candidates.generator import CandidateGenerator, Candidates, RetrievalContext
from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import Ints, Queries
from components.retrieve.models.factory import device, user_folds
from components.retrieve.ranking import RankedLists
from components.retrieve.report import CEILINGS, RetrieveReport, SplitFigures
from components.retrieve.tables import RankedListWriter, load
from components.shared.artifacts import checkpoints
from components.shared.artifacts.outputs import atomic_folder, write_text
from components.shared.errors import DataError
from components.shared.logs import logger
from data_contracts.evaluation import CANDIDATE_ORDER, ONLINE
from data_contracts.tables import CANDIDATES, RANKINGS

log = logger("retrieve")

EVALUATED = ("valid", "test")


@dataclass(frozen=True)
class RetrieveInputs:
    """Folders of the tables of these names; where checkpoints may lie ("" = nowhere)."""

    sequences: Path
    catalogue: Path
    users: Path
    exposures: Path
    checkpoints: str = ""


@dataclass(frozen=True)
class RetrieveOutputs:
    """Folders of the tables CANDIDATES and RANKINGS, and the HTML page."""

    candidates: Path
    rankings: Path
    report_html: Path


def run(config: RetrieveConfig, inputs: RetrieveInputs, outputs: RetrieveOutputs) -> RetrieveReport:
    """Write candidates for every prompt and every model's rankings; return the figures.

    Lists for valid and test come from models trained on every user's train part; those for a user's train
    prompt from models that saw nothing of this user, not even for early stopping. Labels are never added.

    Raises:
        ConfigError: no such device. DataError: unusable tables. ModelError: no such encoder. TrainingError: a
            loss or a weight that is not a number. OutputError: the disk is full.
    """
    device(config)  # fails early where there is none
    data = load(inputs.sequences, inputs.catalogue)
    exposures = load_exposures(inputs.exposures, data) if ONLINE in config.required_models else None
    if not exposures and ONLINE in config.sources:
        raise DataError(
            f"{inputs.exposures}: no list of any user with a sequence; provide the table exposures, "
            f"or remove '{ONLINE}' from retrieve.candidates_from"
        )
    log.info(
        "%d users, %d items, candidates from %s", len(data.user_ids), data.num_items, config.candidates_from
    )
    segments = read_segments(inputs.users, data.user_ids, config.segments)
    figures = RetrieveReport(config, data.num_items)
    encoder = Path(config.encoder.source).expanduser()
    contents = [inputs.sequences, inputs.catalogue, inputs.users, inputs.exposures]
    contents += [encoder] if encoder.is_dir() else []
    with (
        checkpoints.directory(inputs.checkpoints, "retrieve", config, *contents) as checkpoint_dir,
        atomic_folder(outputs.candidates) as candidates,
        atomic_folder(outputs.rankings) as rankings,
    ):
        context = RetrievalContext(config, data, segments, exposures, checkpoint_dir)
        with RankedListWriter(rankings, RANKINGS, data) as table:
            final = _rank_evaluated(context, figures, table)
        with RankedListWriter(candidates, CANDIDATES, data) as table:
            _write_train(context, figures, table)
            for split in EVALUATED:
                _write_candidates(context, figures, table, split, data.queries(split), final[split])
    figures.flags = _flags(context, figures)
    for flag in figures.flags:
        log.warning(flag)
    write_text(outputs.report_html, report.page(figures))
    return figures


def _flags(context: RetrievalContext, figures: RetrieveReport) -> list[str]:
    """Return warnings for people."""
    flags = report.candidate_flags(figures) + report.gap_flags(figures)
    if exposures := context.exposures:
        test = context.data.queries("test")
        listed = test.take(exposures.has_list(test))
        metrics = report.accuracy(exposures.recommend(listed, 10).hits(listed), listed.labels.lengths)
        recall = metrics.get("recall@10", 0.0)
        flags += report.exposure_flags(figures, exposures.known_share, recall)
    elif ONLINE in context.config.models:
        flags.append(f"'{ONLINE}' is not compared: the log has no exposures of these users.")
    return flags


def _rank_evaluated(
    context: RetrievalContext, figures: RetrieveReport, table: RankedListWriter
) -> dict[str, Candidates]:
    """Train each model on all users and write its rankings; return the candidates per split."""
    config, data = context.config, context.data
    generator = CandidateGenerator(context, np.arange(len(data.user_ids)), -1)
    queries = {split: data.queries(split) for split in EVALUATED}
    sources: dict[str, dict[str, RankedLists]] = {split: {} for split in EVALUATED}
    for name in config.required_models:
        if name == ONLINE and not context.exposures:
            continue
        for split, lists in generator.fit_predict(name, queries).items():
            if name in config.sources:
                sources[split][name] = lists
            if name in config.models:
                ranked = lists if name == ONLINE else generator.fill(lists, queries[split])
                table.append(split, queries[split], ranked.first(config.ranking_depth), model=name)
                metrics = report.accuracy(ranked.hits(queries[split]), queries[split].labels.lengths)
                figures.models.setdefault(name, {})[split] = metrics
        figures.seconds[name] = generator.seconds[name]
        if test := figures.models.get(name, {}).get("test"):
            log.info("%s: test %s", name, ", ".join(f"{k} {v:.4f}" for k, v in test.items()))
    return {split: generator.candidates(sources[split], queries[split]) for split in EVALUATED}


def _write_train(context: RetrievalContext, figures: RetrieveReport, table: RankedListWriter) -> None:
    """Write the candidates of train prompts, from models that did not see the user."""
    config, data = context.config, context.data
    queries = data.queries("train")
    fold_of_user = user_folds(data.user_ids, config.folds, config.seed)
    folds = fold_of_user[queries.users]
    lists, filled, new = RankedLists.empty(len(queries), context.depth), 0, 0
    for fold in np.unique(folds).tolist():
        rows = np.flatnonzero(folds == fold)
        generator = CandidateGenerator(context, np.flatnonzero(fold_of_user != fold), fold)
        held_out = queries.take(rows)
        sources = {name: generator.fit_predict(name, {"train": held_out})["train"] for name in config.sources}
        part = generator.candidates(sources, held_out)
        lists.items[rows], lists.scores[rows] = part.lists.items, part.lists.scores
        filled, new = filled + part.filled, new + part.new
    _write_candidates(context, figures, table, "train", queries, Candidates(lists, filled, new), folds)


def _write_candidates(
    context: RetrievalContext,
    figures: RetrieveReport,
    table: RankedListWriter,
    split: str,
    queries: Queries,
    candidates: Candidates,
    folds: Ints | None = None,
) -> None:
    wanted, exposures, lists = context.config.num_candidates, context.exposures, candidates.lists
    table.append(split, queries, lists.first(wanted), fold=folds)
    hits, labels, cuts = lists.hits(queries), queries.labels.lengths, tuple(sorted({*CEILINGS, wanted}))
    figures.splits[split] = SplitFigures(
        users=len(queries),
        labels=float(labels.mean()) if len(queries) else 0.0,
        cold=int((queries.histories.lengths == 0).sum()),
        new_items=candidates.new,
        filled=candidates.filled,
        unlisted=int((~exposures.has_list(queries)).sum()) if exposures else None,
        short=int(((lists.items[:, :wanted] >= 0).sum(1) < wanted).sum()),
        ceilings=report.ceilings(hits, labels, cuts),
        first_labels=report.first_label_recall(lists, queries, cuts),
    )
    if split in EVALUATED:
        figures.models.setdefault(CANDIDATE_ORDER, {})[split] = report.accuracy(hits, labels)

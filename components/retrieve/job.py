"""The step `retrieve`: train every model, list candidates by cross-fitting, rank the full catalogue."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from components.retrieve import report
from components.retrieve.candidates.cross_fit import CrossFit
from components.retrieve.candidates.exposures import load_exposures
from components.retrieve.candidates.generator import CandidateGenerator, RetrievalContext
from components.retrieve.candidates.retriever import Candidates
from components.retrieve.config import CEILINGS, RetrieveConfig
from components.retrieve.interactions import Ints
from components.retrieve.models.factory import device
from components.retrieve.report import RetrieveReport, SplitFigures
from components.retrieve.segments import Segments
from components.retrieve.served.folder import Served, save
from components.retrieve.tables import RankedListWriter, load, read_items, read_profiles
from components.shared.artifacts.checkpoints import directory
from components.shared.artifacts.outputs import atomic_folder, write_text
from components.shared.errors import DataError
from components.shared.labels import WHOLE_WINDOW, LabelSettings
from components.shared.logs import logger
from data_contracts.evaluation import CANDIDATE_ORDER, ONLINE
from data_contracts.tables import CANDIDATES, RANKINGS

log = logger("retrieve")

EVALUATED = ("valid", "test")


def run(
    config: RetrieveConfig,
    *,
    sequences: Path,
    catalogue: Path,
    users: Path,
    exposures: Path,
    candidates: Path,
    rankings: Path,
    served: Path,
    report_html: Path,
    checkpoints: str = "",
    fingerprint: str = "",
    labels: LabelSettings = WHOLE_WINDOW,
) -> RetrieveReport:
    """Write the tables `candidates` of every prompt and `rankings` of every model; return the figures.

    The folder `served` holds what answers further requests: the candidates' models on all users' train part.
    Lists for valid and test come from models trained on every user's train part; those for a user's train
    prompt from models that saw nothing of this user, not even for early stopping. Labels, those of the
    prompts, are never added.
    """
    device(config)  # fails early where there is none
    data = load(sequences, catalogue, labels)
    shown = load_exposures(exposures, data) if ONLINE in (*config.models, *config.sources) else None
    if not shown and ONLINE in config.sources:
        raise DataError(
            f"{exposures}: no list of any user with a sequence; provide the table exposures, "
            f"or remove '{ONLINE}' from retrieve.candidates_from"
        )
    log.info(
        "%d users, %d items, candidates from %s", len(data.user_ids), data.num_items, config.candidates_from
    )
    profiles = read_profiles(users, data.user_ids, config.segments)
    segments = Segments.of(profiles, config.segments)
    data = replace(data, segments=segments.numbers(profiles))
    figures = RetrieveReport(config, data.num_items)
    inputs = (sequences, catalogue, users, exposures)
    with (
        # The fingerprint names the encoder, whose vectors are saved there.
        directory(checkpoints, "retrieve", config, *inputs, also=fingerprint) as checkpoint_dir,
        atomic_folder(candidates) as candidates_folder,
        atomic_folder(rankings) as rankings_folder,
    ):
        context = RetrievalContext(config, data, shown, checkpoint_dir)
        final = CandidateGenerator(context, np.arange(len(data.user_ids)), -1)
        cross_fit = CrossFit.of(context)
        if config.has_blend:
            cross_fit.add_blends(final)
        with RankedListWriter(rankings_folder, RANKINGS, data) as table:
            for name in config.ranked:
                if name != ONLINE or shown:
                    _rank(name, final, figures, table)
        with RankedListWriter(candidates_folder, CANDIDATES, data) as table:
            _write_candidates("train", cross_fit.candidates(), cross_fit.folds, context, figures, table)
            for split in EVALUATED:
                found = final.candidates(data.queries(split))
                _write_candidates(split, found, -1, context, figures, table)
        with atomic_folder(served) as folder:
            # What an online system showed comes with a request, or not at all.
            only_shown = config.sources == (ONLINE,)
            retriever = final.retriever(*(["popularity"] if only_shown else []))
            save(Served(retriever, read_items(catalogue), segments), data, folder)
    figures.flags = report.flags(figures, shown, data)
    for flag in figures.flags:
        log.warning(flag)
    write_text(report_html, report.page(figures))
    return figures


def _rank(name: str, generator: CandidateGenerator, figures: RetrieveReport, table: RankedListWriter) -> None:
    """Write valid and test lists of model `name`; add its metrics to `figures`."""
    context = generator.context
    figures.seconds[name] = generator.fit(name)[1]
    retriever = generator.retriever(name)
    metrics = figures.models[name] = {}
    for split in EVALUATED:
        queries = context.data.queries(split)
        lists = retriever.rank(name, queries)
        table.append(split, queries, lists, context.config.ranking_depth, name)
        metrics[split] = report.accuracy(lists, queries)
    log.info("%s: test %s", name, ", ".join(f"{k} {v:.4f}" for k, v in metrics["test"].items()))


def _write_candidates(
    split: str,
    candidates: Candidates,
    folds: Ints | int,
    context: RetrievalContext,
    figures: RetrieveReport,
    table: RankedListWriter,
) -> None:
    wanted, exposures, lists = context.config.num_candidates, context.exposures, candidates.lists
    queries = candidates.queries
    table.append(split, queries, lists, wanted, "", folds)
    hits, labels, cuts = lists.hits(queries), queries.labels.lengths, tuple(sorted({*CEILINGS, wanted}))
    figures.splits[split] = SplitFigures(
        users=len(queries),
        labels=float(labels.mean()) if len(queries) else 0.0,
        cold=int((queries.histories.lengths == 0).sum()),
        new_items=candidates.new,
        filled=candidates.filled,
        unlisted=int((exposures.latest(queries) < 0).sum()) if exposures else None,
        short=int(((lists.items[:, :wanted] >= 0).sum(1) < wanted).sum()),
        ceilings=report.ceilings(hits, labels, cuts),
        first_labels=report.first_label_recall(lists, queries, cuts),
    )
    if split in EVALUATED:
        figures.models.setdefault(CANDIDATE_ORDER, {})[split] = report.accuracy(lists, queries)

"""The step `retrieve`: train every model, list candidates by cross-fitting, rank the full catalogue."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.retrieve import report
from components.retrieve.candidates.cross_fit import CrossFit
from components.retrieve.candidates.exposures import Exposures, load_exposures
from components.retrieve.candidates.generator import CandidateGenerator, RetrievalContext
from components.retrieve.config import RetrieveConfig
from components.retrieve.figures import Sums, model_figures, split_figures
from components.retrieve.interactions import Interactions
from components.retrieve.models.factory import device
from components.retrieve.networks.vector_cache import shared
from components.retrieve.partition import EVALUATED, Answering
from components.retrieve.passes import ExecutorTables, here, in_executors
from components.retrieve.report import RetrieveReport
from components.retrieve.segments import Segments
from components.retrieve.served.folder import Served, save
from components.retrieve.tables import load, read_items, read_profiles
from components.shared.artifacts.checkpoints import directory
from components.shared.artifacts.outputs import atomic_folder, write_text
from components.shared.errors import ConfigError, DataError
from components.shared.labels import WHOLE_WINDOW, LabelSettings
from components.shared.logs import logger
from data_contracts.evaluation import CANDIDATE_ORDER, ONLINE
from data_contracts.tables import SPLITS

log = logger("retrieve")


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
    remote: ExecutorTables | None = None,
) -> RetrieveReport:
    """Write the tables `candidates` of every prompt and `rankings` of every model; return the figures.

    The folder `served` holds what answers further requests: the candidates' models on all users' train part.
    Lists for valid and test come from models trained on every user's train part; those for a user's train
    prompt from models that saw nothing of this user, not even for early stopping. Labels, those of the
    prompts, are never added. `remote` says where executors on other machines find the tables.
    """
    device(config)  # fails early where there is none
    if config.spark and not find_spec("pyspark"):
        raise ConfigError(
            "retrieve.spark: pyspark is not installed here; remove the key, or give the step an image with "
            "the extras etl and train"
        )
    data = load(sequences, catalogue, labels, config.encoder.reads)
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
        # The fingerprint names the encoder, whose vectors are saved there and shared with later runs.
        directory(checkpoints, "retrieve", config, *inputs, also=f"{fingerprint} {labels}") as checkpoint_dir,
        shared(checkpoints, config.encoder, fingerprint, checkpoint_dir),
        atomic_folder(candidates) as candidates_folder,
        atomic_folder(rankings) as rankings_folder,
    ):
        context = RetrievalContext(config, data, shown, checkpoint_dir)
        final = CandidateGenerator(context, np.arange(len(data.user_ids)), -1)
        cross_fit = CrossFit.of(context)
        if config.has_blend:
            cross_fit.add_blends(final)
        ranked = tuple(name for name in config.ranked if name != ONLINE or shown)
        figures.seconds = {name: final.fit(name)[1] for name in ranked}
        answering = Answering(
            final.retriever(*ranked), cross_fit.retrievers(), pa.array(data.item_ids), ranked
        )
        if config.spark:
            seen = remote or ExecutorTables(sequences, users)
            parts = (seen, candidates_folder, rankings_folder)
            sums = in_executors(config.spark, answering, data, segments, labels, *parts)
        else:
            sums = here(answering, data, candidates_folder, rankings_folder)
        with atomic_folder(served) as folder:
            # What an online system showed comes with a request, or not at all.
            only_shown = config.sources == (ONLINE,)
            retriever = final.retriever(*(["popularity"] if only_shown else []))
            save(Served(retriever, read_items(catalogue), segments), data, folder)
    _add_figures(figures, sums, ranked, shown, data)
    figures.flags = report.flags(figures, shown, data)
    for flag in figures.flags:
        log.warning(flag)
    write_text(report_html, report.page(figures))
    return figures


def _add_figures(
    figures: RetrieveReport,
    sums: Sums,
    ranked: tuple[str, ...],
    shown: Exposures | None,
    data: Interactions,
) -> None:
    """Add the figures of candidates and models, from the partitions' sums."""
    config = figures.config
    for split in SPLITS:
        unlisted = None
        if shown:
            queries = data.train_queries(config.train_positions) if split == "train" else data.queries(split)
            unlisted = int((shown.latest(queries) < 0).sum())
        figures.splits[split] = split_figures(split, sums, config.ceilings, unlisted)
    for name in (*ranked, CANDIDATE_ORDER):
        figures.models[name] = {split: model_figures(split, name, sums) for split in EVALUATED}
        test = figures.models[name]["test"]
        log.info("%s: test %s", name, ", ".join(f"{metric} {value:.4f}" for metric, value in test.items()))

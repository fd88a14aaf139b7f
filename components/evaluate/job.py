"""Evaluate all comparators on the same users and write the report."""

from collections.abc import Mapping
from itertools import compress
from pathlib import Path
from typing import Any

from components.evaluate import health
from components.evaluate.answers import answer_statistics, examples
from components.evaluate.asking import answer_all
from components.evaluate.comparison import compare
from components.evaluate.config import EvaluateConfig
from components.evaluate.logged import drift, off_policy
from components.evaluate.report import page
from components.evaluate.scores import recall_ceiling, score, write_values
from components.evaluate.slices import slices
from components.evaluate.tables import SPLIT, read_catalogue, read_rankings, sample_prompts
from components.shared.artifacts.outputs import write_text
from components.shared.errors import DataError, faults_as
from components.shared.logs import logger
from components.shared.metrics import mean
from components.shared.tracking import evaluation
from data_contracts.evaluation import (
    CANDIDATE_ORDER,
    CHAMPION,
    NO_MODEL,
    ONLINE,
    SCORED_MODEL,
    UNFUSED_MODEL,
    EvaluationReport,
    Kind,
    Lineage,
    Sample,
    TrainingAlarms,
)
from data_contracts.strict import decode

log = logger("evaluate")


def run(
    config: EvaluateConfig,
    *,
    prompts: Path,
    catalogue: Path,
    rankings: Path,
    models: Mapping[str, Path],
    lineage: Lineage,
    training_alarms: Mapping[str, Any],
    report_json: Path,
    users: Path,
    html: Path,
    logged: Mapping[str, str] | None = None,
) -> EvaluationReport:
    """Return the report on all comparators, after writing it and its page.

    `users` is the file of every user's values behind it. `logged` are the folders or URIs of the tables
    sequences, exposures, catalogue and quarantine; without them neither data summary nor off-policy estimate.

    `models` are folders by comparator, in the order of training; one with the file `none.txt` is left out.
    """
    with faults_as(DataError):
        alarms = decode(TrainingAlarms, training_alarms, "the alarms of grpo").alarms
    rows, available = sample_prompts(prompts, config.max_users, config.seed)
    items = read_catalogue(catalogue)
    orders = read_rankings(rankings, rows)
    models = {name: folder for name, folder in models.items() if not (folder / NO_MODEL).is_file()}
    if CHAMPION in models:  # a model is compared with those before it, so the new ones with the champion
        models = {CHAMPION: models[CHAMPION]} | models
    if reserved := {CANDIDATE_ORDER, CHAMPION, SCORED_MODEL, UNFUSED_MODEL, *models} & set(orders):
        raise DataError(f"{rankings}: a model is called '{min(reserved)}', a name that evaluate uses itself")
    log.info("%d of %d %s users, %d language models", len(rows), available, SPLIT, len(models))

    is_asked = [config.ask_unretrieved or bool(row.labels) for row in rows]
    is_asked = is_asked if any(is_asked) else [True] * len(rows)
    asked = list(compress(rows, is_asked))
    answers = answer_all(config, models, asked)
    orders[CANDIDATE_ORDER] = [row.candidates for row in rows]
    scores = [score(name, _kind(name, "conventional"), order, rows, items) for name, order in orders.items()]
    ranked = dict(orders)
    for name, given in answers.items():
        answered = iter(given.rankings)  # no order of the candidates changes the others' accuracy
        ranked[name] = [next(answered) if is_asked[i] else row.candidates for i, row in enumerate(rows)]
        statistics = answer_statistics(given, asked)
        scores.append(score(name, _kind(name, "llm"), ranked[name], rows, items, statistics))
    sample = Sample(
        split=SPLIT,
        users=len(rows),
        users_available=available,
        users_asked=len(asked) if len(asked) < len(rows) else None,
        seed=config.seed,
        candidates=mean([len(row.candidates) for row in rows]),
        recall_ceiling=recall_ceiling(rows),
        catalogue_items=len(items),
        confidence=config.confidence,
        bootstrap_samples=config.bootstrap_samples,
        tied_share=mean([float(row.days_since_last == 0) for row in rows]),
    )
    comparators, differences = compare(scores, sample)
    estimated, data = [], None
    if logged:
        shown, unlabelled = off_policy.read_shown(logged["exposures"], logged["sequences"], rows)
        estimated = off_policy.estimates(ranked, shown, unlabelled, sample)
        data = drift.summarise(logged["sequences"], logged["catalogue"], logged["quarantine"])
    before = drift.read_summary(models.get(CHAMPION))
    drifted = drift.drift(config.drift, data, before) if data and before else []
    report = EvaluationReport(
        comparators=tuple(comparators),
        differences=tuple(differences),
        sample=sample,
        slices=tuple(slices(rows, scores, items, sample)),
        off_policy=tuple(estimated),
        alarms=(
            *alarms,
            *health.alarms(config.health, comparators, differences, len(asked)),
            *health.label_alarms(config.health, sample),
            *drift.alarms(drifted),
        ),
        data=data,
        drift=tuple(drifted),
        examples=tuple(examples(config, asked, answers, items)),
        lineage=lineage,
    )
    # The report file is last: where it exists, the others do.
    write_values(users, rows, scores)
    page.write(html, report)
    write_text(report_json, report.to_json())
    evaluation.try_log(report, users)
    return report


def headline_metrics(report: EvaluationReport) -> dict[str, float]:
    """Return the metrics for the Kubeflow UI; "@" is spelt out, as MLflow refuses it."""
    figures = {"users": float(report.sample.users), "recall_ceiling": report.sample.recall_ceiling}
    for comparator in report.comparators:
        for metric in ("recall@10", "ndcg@10"):
            figures[f"{comparator.name}_{metric.replace('@', '_at_')}"] = comparator.metrics[metric]
        if comparator.answers:
            figures[f"{comparator.name}_valid_share"] = comparator.answers.valid_share
    return figures


def _kind(name: str, otherwise: Kind) -> Kind:
    return "champion" if name == CHAMPION else "online" if name == ONLINE else otherwise

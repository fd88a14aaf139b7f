"""Evaluate all comparators on the same users and write the report."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.evaluate import health, page
from components.evaluate.answers import answer_all, answer_statistics, examples
from components.evaluate.comparison import compare, slices
from components.evaluate.config import EvaluateConfig
from components.evaluate.scores import recall_ceiling, score
from components.evaluate.tables import SPLIT, read_catalogue, read_rankings, sample_prompts
from components.shared.artifacts.outputs import write_json, write_text
from components.shared.errors import DataError
from components.shared.logs import logger
from components.shared.metrics import mean
from components.shared.prompting.answer import final_ranking
from data_contracts.evaluation import (
    CANDIDATE_ORDER,
    CHAMPION,
    NO_MODEL,
    ONLINE,
    EvaluationReport,
    Kind,
    Sample,
    TrainingAlarms,
)

log = logger("evaluate")


@dataclass(frozen=True)
class EvaluateInputs:
    """What is evaluated.

    Attributes:
        prompts, catalogue, rankings: folders of the tables.
        models: model folders by comparator name, as they were trained; one with the file `none.txt` is left
            out.
        lineage: what the run was made from.
        alarms: file of the training's alarms, which the report repeats.
    """

    prompts: Path
    catalogue: Path
    rankings: Path
    models: dict[str, Path]
    lineage: dict[str, Any] = field(default_factory=dict)
    alarms: Path | None = None


@dataclass(frozen=True)
class EvaluateOutputs:
    """Files: the report as JSON and as a page, its headline metrics."""

    report_json: Path
    html: Path
    metrics: Path


def run(config: EvaluateConfig, inputs: EvaluateInputs, outputs: EvaluateOutputs) -> EvaluationReport:
    """Return the report on all comparators, after writing the outputs.

    Raises:
        DataError: a table is missing, empty, or does not fit the others. ModelError: a model folder
            cannot be loaded.
    """
    try:
        alarms = TrainingAlarms.read(inputs.alarms).alarms if inputs.alarms else ()
    except ValueError as error:
        raise DataError(str(error)) from error
    prompts, available = sample_prompts(inputs.prompts, config.max_users, config.seed)
    catalogue = read_catalogue(inputs.catalogue)
    rankings = read_rankings(inputs.rankings, prompts)
    models = {name: folder for name, folder in inputs.models.items() if not (folder / NO_MODEL).is_file()}
    if CHAMPION in models:  # a model is compared with those before it, so the new ones with the champion
        models = {CHAMPION: models[CHAMPION]} | models
    if reserved := {CANDIDATE_ORDER, CHAMPION, *models} & set(rankings):
        raise DataError(
            f"{inputs.rankings}: a model is called '{min(reserved)}', a name that evaluate uses itself"
        )
    log.info("%d of %d %s users, %d language models", len(prompts), available, SPLIT, len(models))

    answers = answer_all(config, models, prompts)
    orders = rankings | {CANDIDATE_ORDER: [prompt.candidates for prompt in prompts]}
    scores = [
        score(name, _kind(name, "conventional"), order, prompts, catalogue) for name, order in orders.items()
    ]
    for name, given in answers.items():
        pairs = zip(given.completions, prompts, strict=True)
        order = [final_ranking(completion.text, prompt.candidates) for completion, prompt in pairs]
        statistics = answer_statistics(given, prompts)
        scores.append(score(name, _kind(name, "llm"), order, prompts, catalogue, statistics))
    sample = Sample(
        split=SPLIT,
        users=len(prompts),
        users_available=available,
        seed=config.seed,
        candidates=mean([len(prompt.candidates) for prompt in prompts]),
        recall_ceiling=recall_ceiling(prompts),
        catalogue_items=len(catalogue),
        confidence=config.confidence,
        bootstrap_samples=config.bootstrap_samples,
    )
    comparators, differences = compare(scores, sample)
    report = EvaluationReport(
        comparators=tuple(comparators),
        differences=tuple(differences),
        sample=sample,
        slices=tuple(slices(prompts, scores, catalogue)),
        alarms=(*alarms, *health.alarms(config.health, comparators, differences, len(prompts))),
        examples=tuple(examples(config, prompts, answers, catalogue)),
        lineage=inputs.lineage,
    )
    # The report file is last: where it exists, all outputs do.
    page.write(outputs.html, report)
    write_json(outputs.metrics, headline_metrics(report))
    write_text(outputs.report_json, report.to_json())
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

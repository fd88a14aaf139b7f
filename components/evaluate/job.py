"""Ask every model about the same users, compare, and write the report for machines and for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.evaluate import gate, health, page, summary
from components.evaluate.answers import answer_statistics, ask_all, examples
from components.evaluate.comparison import compare
from components.evaluate.config import EvaluateConfig, GateConfig
from components.evaluate.scores import recall_ceiling, score
from components.evaluate.slices import slices
from components.evaluate.tables import SPLIT, read_catalogue, read_rankings, sample_prompts
from components.shared.artifacts.outputs import write_json, write_text
from components.shared.errors import DataError
from components.shared.prompting.answer import final_ranking
from components.shared.prompting.table import PromptRow
from data_contracts.evaluation import (
    CANDIDATE_ORDER,
    NO_MODEL,
    ONLINE,
    Alarm,
    EvaluationReport,
    Kind,
    Sample,
    TrainingAlarms,
)

CHAMPION = "champion"


@dataclass(frozen=True)
class EvaluateInputs:
    """Folders of the three tables; model folders by comparator name, in the order of training.

    A model folder that holds the file `none.txt` is left out: there is no such model yet. `alarms` is the
    file of those that the training raised; the report carries them along.
    """

    prompts: Path
    catalogue: Path
    rankings: Path
    models: dict[str, Path]
    lineage: dict[str, Any] = field(default_factory=dict)
    alarms: Path | None = None


@dataclass(frozen=True)
class EvaluateOutputs:
    """Files: the report as JSON, as a page for people, as a short table; its main figures."""

    report_json: Path
    html: Path
    markdown: Path
    metrics: Path | None = None


def run(config: EvaluateConfig, inputs: EvaluateInputs, outputs: EvaluateOutputs) -> EvaluationReport:
    """Evaluate all comparators and write the outputs.

    Raises:
        DataError: a table is missing, empty, or does not fit the others. ModelError: a model folder
            cannot be loaded.
    """
    raised = _raised(inputs.alarms)
    prompts, available = sample_prompts(inputs.prompts, config.max_users, config.seed)
    catalogue = read_catalogue(inputs.catalogue)
    rankings = read_rankings(inputs.rankings, prompts)
    models = _in_order({name: path for name, path in inputs.models.items() if _present(path)})
    _check_names(rankings, models, inputs.rankings)
    print(f"evaluate: {len(prompts)} of {available} {SPLIT} users, {len(models)} language models", flush=True)

    answers = ask_all(config, models, prompts)
    orders = rankings | {CANDIDATE_ORDER: [prompt.candidates for prompt in prompts]}
    scores = [score(name, _kind(name), order, prompts, catalogue) for name, order in orders.items()]
    for name, given in answers.items():
        order = [final_ranking(text, p.candidates) for text, p in zip(given.texts, prompts, strict=True)]
        scores.append(
            score(name, _kind(name, "llm"), order, prompts, catalogue, answer_statistics(given, prompts))
        )
    sample = _sample(config, prompts, available, len(catalogue))
    comparators, differences = compare(scores, sample)
    report = EvaluationReport(
        comparators=tuple(comparators),
        differences=tuple(differences),
        sample=sample,
        slices=tuple(slices(prompts, scores, catalogue)),
        alarms=(*raised, *health.alarms(config.health, comparators, differences, len(prompts))),
        examples=tuple(examples(config, prompts, answers, catalogue)),
        lineage=inputs.lineage,
    )
    _write(report, outputs)
    return report


def run_gate(config: GateConfig, report: Path, decision: Path) -> gate.Decision:
    """Judge the report file by the gate's rules and write the decision as Markdown.

    Raises:
        DataError: the report cannot be read. ConfigError: a rule names a comparator that it lacks.
    """
    try:
        read = EvaluationReport.read(report)
    except ValueError as error:
        raise DataError(str(error)) from error
    decided = gate.decide(config, read)
    write_text(decision, gate.to_markdown(decided, read))
    for rule in decided.rules:
        print(f"gate: {'pass' if rule.passed else 'FAIL'}  {rule.name}: {rule.figure}", flush=True)
    return decided


def _raised(alarms: Path | None) -> tuple[Alarm, ...]:
    try:
        return TrainingAlarms.read(alarms).alarms if alarms else ()
    except ValueError as error:
        raise DataError(str(error)) from error


def _sample(config: EvaluateConfig, prompts: Sequence[PromptRow], available: int, items: int) -> Sample:
    return Sample(
        split=SPLIT,
        users=len(prompts),
        users_available=available,
        seed=config.seed,
        candidates=sum(len(prompt.candidates) for prompt in prompts) / len(prompts),
        recall_ceiling=recall_ceiling(prompts),
        catalogue_items=items,
        confidence=config.confidence,
        bootstrap_samples=config.bootstrap_samples,
    )


def _write(report: EvaluationReport, outputs: EvaluateOutputs) -> None:
    """Write the forms for people first, so that a report file means that all of them are there."""
    write_text(outputs.html, page.render(report))
    write_text(outputs.markdown, summary.to_markdown(report))
    if outputs.metrics:
        write_json(outputs.metrics, summary.headline_metrics(report))
    write_text(outputs.report_json, report.to_json())


def _present(folder: Path) -> bool:
    return not (Path(folder) / NO_MODEL).is_file()


def _kind(name: str, otherwise: Kind = "conventional") -> Kind:
    return "champion" if name == CHAMPION else "online" if name == ONLINE else otherwise


def _in_order(models: Mapping[str, Path]) -> dict[str, Path]:
    """Put the champion first: a model is compared with those before it, so new ones with the champion."""
    return dict(sorted(models.items(), key=lambda entry: entry[0] != CHAMPION))


def _check_names(rankings: Mapping[str, object], models: Mapping[str, Path], table: Path) -> None:
    taken = {CANDIDATE_ORDER, CHAMPION, *models} & set(rankings)
    if taken:
        raise DataError(f"{table}: a model is called '{min(taken)}', a name that evaluate uses itself")

"""The main page of a local run: the gate's verdict, all comparators, and links to the pages of the steps."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from components.evaluate.config import CHALLENGER, GateConfig
from components.shared.reporting import page
from data_contracts.evaluation import Comparator, EvaluationReport

PAGES = {
    "evaluate": ("html", "Evaluation report"),
    "sequences": ("data_docs", "Raw tables and sequences"),
    "retrieve": ("report", "Retrieval"),
    "prompts": ("data_docs", "Prompts"),
    "sft": ("curves", "SFT"),
    "grpo": ("curves", "GRPO"),
}
"""The HTML artifact of each step that has one, and its title."""

METRICS = ("recall@5", "recall@10", "ndcg@5", "ndcg@10", "ilad", "novelty")


def write(folder: Path, steps: Mapping[str, Path], gate: GateConfig) -> Path:
    """Write `report.html` and the steps' pages into the run's `folder`; return the report's path.

    `steps` holds the folder of each step's outputs, which for a cached step lies in another run. The pages
    are copies that a browser knows by their ending.
    """
    links = {}
    (folder / "pages").mkdir(exist_ok=True)
    for step, (artifact, title) in PAGES.items():
        links[title] = f"pages/{step}.html"
        shutil.copyfile(steps[step] / artifact, folder / links[title])
    report = EvaluationReport.read(steps["evaluate"] / "report")
    path = folder / "report.html"
    page.write(path, f"Run {folder.name}", _blocks(report, gate), lead=sample_of(report), links=links)
    return path


def _blocks(report: EvaluationReport, gate: GateConfig) -> list[page.Block]:
    from components.evaluate.gate import decide

    decision = decide(gate, report)
    verdict = "passed the gate and is registered" if decision.passed else "is not registered"
    tones: dict[bool, page.Tone] = {True: "good", False: "bad"}
    rules: list[list[str | page.Cell]] = [
        [rule.name, rule.figure, page.Cell("pass" if rule.passed else "fail", tones[rule.passed])]
        for rule in decision.rules
    ]
    return [
        page.Note(f"{CHALLENGER} {verdict}.", "good" if decision.passed else "warn"),
        page.Table(["rule of the gate", "found", ""], rows=rules, is_text=True),
        page.Heading("Comparators"),
        page.Table(["model", *headers(report)], [[one.name, *cells(one)] for one in report.comparators]),
        page.Heading("Lineage"),
        page.Table([], [[name, str(value)] for name, value in sorted(report.lineage.items())], is_text=True),
    ]


def sample_of(report: EvaluationReport) -> str:
    """Return in words who was evaluated on what."""
    sample = report.sample
    return (
        f"{sample.users} of {sample.users_available} test users, full catalogue of {sample.catalogue_items} "
        f"items, recall ceiling {sample.recall_ceiling:.3f}"
    )


def headers(report: EvaluationReport) -> list[str]:
    """Return the headers of a comparator's figures."""
    return [*METRICS, f"ndcg@10 {report.sample.confidence:.0%} interval", "valid"]


def cells(comparator: Comparator) -> list[str]:
    """Return the figures of one comparator under `headers`."""
    interval, answers = comparator.ndcg_at_10_interval, comparator.answers
    return [
        *(f"{comparator.metrics[name]:.4f}" for name in METRICS),
        f"{interval.low:.4f} to {interval.high:.4f}",
        f"{answers.valid_share:.0%}" if answers else "",
    ]

"""The main page of a local run: the gate's verdict, all comparators, and links to the pages of the steps."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from components.evaluate.config import TRAINED_MODEL, GateConfig
from components.shared.reporting import page
from data_contracts.evaluation import EvaluationReport

PAGES = {
    "evaluate": "Evaluation report",
    "sequences": "Raw tables and sequences",
    "retrieve": "Retrieval",
    "prompts": "Prompts",
    "sft": "SFT",
    "grpo": "GRPO",
}
"""The title of each step's page."""


def write(folder: Path, outputs: Mapping[str, Path], report: EvaluationReport, gate: GateConfig) -> None:
    """Write `report.html` and copies of the steps' pages into the run's `folder`.

    `outputs` holds the page of each step, which for a cached step lies in another run.
    """
    from components.evaluate.gate import decide
    from components.evaluate.page import lineage, ranking_quality

    links = {}
    (folder / "pages").mkdir(exist_ok=True)
    for step, title in PAGES.items():
        links[title] = f"pages/{step}.html"
        shutil.copyfile(outputs[step], folder / links[title])
    decision = decide(gate, report)
    verdict = "passed the gate and is registered" if decision.passed else "is not registered"
    outcomes = {True: page.Cell("pass", "good"), False: page.Cell("fail", "bad")}
    rules = [(rule.name, rule.figure, outcomes[rule.passed]) for rule in decision.rules]
    blocks = [
        page.Note(f"{TRAINED_MODEL} {verdict}.", "good" if decision.passed else "warn"),
        page.Table(["rule of the gate", "found", ""], rules, is_text=True),
        page.Heading("Comparators"),
        *ranking_quality(report),
        page.Heading("Lineage"),
        lineage(report),
    ]
    page.write(folder / "report.html", f"Run {folder.name}", blocks, lead=str(report.sample), links=links)

"""The main page of a local run: the gate's verdict, all comparators, and links to the pages of the steps."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from components.evaluate.config import CHALLENGER, GateConfig
from components.shared.reporting import page
from data_contracts.evaluation import EvaluationReport

PAGES = {
    "evaluate": ("html", "Evaluation report"),
    "sequences": ("data_docs", "Raw tables and sequences"),
    "retrieve": ("report", "Retrieval"),
    "prompts": ("data_docs", "Prompts"),
    "sft": ("curves", "SFT"),
    "grpo": ("curves", "GRPO"),
}
"""The HTML artifact of each step that has one, and its title."""


def write(folder: Path, steps: Mapping[str, Path], gate: GateConfig) -> None:
    """Write `report.html` and the steps' pages into the run's `folder`.

    `steps` holds the folder of each step's outputs, which for a cached step lies in another run. The pages
    are copies that a browser knows by their ending.
    """
    from components.evaluate.gate import decide
    from components.evaluate.page import lineage, ranking_quality

    links = {}
    (folder / "pages").mkdir(exist_ok=True)
    for step, (artifact, title) in PAGES.items():
        links[title] = f"pages/{step}.html"
        shutil.copyfile(steps[step] / artifact, folder / links[title])
    report = EvaluationReport.read(steps["evaluate"] / "report")
    decision = decide(gate, report)
    verdict = "passed the gate and is registered" if decision.passed else "is not registered"
    outcomes = {True: page.Cell("pass", "good"), False: page.Cell("fail", "bad")}
    rules = [(rule.name, rule.figure, outcomes[rule.passed]) for rule in decision.rules]
    blocks = [
        page.Note(f"{CHALLENGER} {verdict}.", "good" if decision.passed else "warn"),
        page.Table(["rule of the gate", "found", ""], rules, is_text=True),
        page.Heading("Comparators"),
        *ranking_quality(report),
        page.Heading("Lineage"),
        lineage(report),
    ]
    page.write(folder / "report.html", f"Run {folder.name}", blocks, lead=str(report.sample), links=links)

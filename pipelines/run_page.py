"""The main page of a local run: the report with the gate's verdict, and links to the pages of the steps."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.reporting import page
from data_contracts.evaluation import EvaluationReport

if TYPE_CHECKING:
    from components.evaluate.gate import Decision

PAGES = {
    "evaluate": "Evaluation report",
    "sequences": "Raw tables and sequences",
    "retrieve": "Retrieval",
    "prompts": "Prompts",
    "sft": "SFT",
    "grpo": "GRPO",
    "gate": "Gate",
    "window": "Data window and preflight",
}
"""The title of each step's page."""


def write(folder: Path, pages: Mapping[str, Path], report: EvaluationReport, decision: "Decision") -> None:
    """Write `report.html` and copies of the steps' pages into the run's `folder`.

    `pages` holds the page of each step, which for a cached step lies in another run.
    """
    from components.evaluate.report.page import blocks

    links = {}
    (folder / "pages").mkdir(exist_ok=True)
    for step, title in PAGES.items():
        links[title] = f"pages/{step}.html"
        shutil.copyfile(pages[step], folder / links[title])
    page.write(
        folder / "report.html",
        f"Run {folder.name}",
        blocks(report, decision),
        lead=str(report.sample),
        links=links,
    )

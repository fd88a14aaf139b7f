"""What a local run or an experiment prints at its end: figures, paths and the next commands."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from data_contracts.evaluation import EvaluationReport
from pipelines import experiment_report, run_page
from pipelines.local import LocalRun

WIDTH = 120  # of the table; a log or a pipe has no width of its own


def show(run: LocalRun) -> None:
    """Print the table of comparators, the gate's decision, the paths and the next commands."""
    screen = Console(width=max(WIDTH, Console().width), soft_wrap=True, highlight=False)
    report = EvaluationReport.read(run.artifact("evaluate", "report"))
    table = Table("comparator", title=run_page.sample_of(report), title_justify="left")
    for header in run_page.headers(report):
        table.add_column(header, justify="right")
    for comparator in report.comparators:
        table.add_row(comparator.name, *run_page.cells(comparator))
    screen.print(table)
    screen.print(run.artifact("gate", "decision").read_text(encoding="utf-8"), markup=False)
    promote = f"recllm promote --model {run.model_name} --tracking-uri {run.tracking_uri}"
    lines = [
        f"report:    {run.page}",
        f"MLflow:    {run.tracking_uri}",
        f"artifacts: {run.folder}",
        f"log:       {run.folder / 'run.log'}",
        "",
        "Next:",
        f"  recllm open {run.folder}",
        f"  mlflow ui --backend-store-uri {run.tracking_uri}",
        f"  {promote if run.has_registered else 'nothing to promote: the gate registered no version'}",
    ]
    screen.print("\n".join(lines), markup=False)


def show_experiment(folder: Path) -> None:
    """Print an experiment's question, its variants side by side, the verdict and the report's path."""
    screen = Console(width=max(WIDTH, Console().width), soft_wrap=True)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    table = Table("variant", title=report["question"], title_justify="left")
    for header in experiment_report.HEADERS:
        table.add_column(header, justify="right")
    for variant, row in report["variants"].items():
        table.add_row(variant, *experiment_report.cells(row))
    screen.print(table)
    screen.print(experiment_report.verdict(report["variants"]), markup=False)
    screen.print(f"report: {folder / 'report.html'}", markup=False, highlight=False)

"""What a local run or an experiment prints at its end: figures, paths and the next commands."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.experiments import report as experiment_report
from pipelines.local import LocalRun

WIDTH = 130  # of the table; a log or a pipe has no width of its own


def show(run: LocalRun) -> None:
    """Print the table of comparators, the gate's decision, the paths and the next commands."""
    figures = {found.name: found.figures() for found in run.report.comparators}
    promote = f"recllm promote --model {run.model_name} --tracking-uri {shlex.quote(run.tracking_uri)}"
    _print(
        str(run.report.sample),
        figures,
        f"Gate: {run.decision}",
        *(f"  {rule}" for rule in run.decision.rules),
        "",
        f"report:    {run.page}",
        f"MLflow:    {run.tracking_uri}",
        f"artifacts: {run.folder}",
        f"log:       {run.folder / 'run.log'}",
        "",
        "Next:",
        f"  recllm open {shlex.quote(str(run.folder))}",
        f"  mlflow ui --backend-store-uri {shlex.quote(run.tracking_uri)}",
        f"  {promote if run.decision.passed else 'nothing to promote: the gate registered no version'}",
    )


def show_experiment(folder: Path) -> None:
    """Print an experiment's question, its variants side by side, the verdict and the report's path."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    _print(
        report["question"],
        experiment_report.table_of(report),
        report["verdict"],
        f"report: {folder / 'report.html'}",
    )


def show_rows(title: str, rows: Sequence[Any], without: Sequence[str] = ()) -> None:
    """Print dataclasses as a table under `title`, without the fields named in `without`."""
    table = Table(title=title, title_justify="left")
    names = [field.name for field in fields(rows[0]) if field.name not in without] if rows else []
    for name in names:
        table.add_column(name.replace("_at_", "@").replace("_", " "))
    for row in rows:
        values = (getattr(row, name) for name in names)
        table.add_row(*("" if value is None else str(value) for value in values))
    Console(width=max(WIDTH, Console().width), highlight=False).print(table if rows else title)


def _print(title: str, figures: Mapping[str, Mapping[str, str]], *lines: str) -> None:
    """Print `figures` as a table, a row per name, a column per header; then `lines`."""
    screen = Console(width=max(WIDTH, Console().width), soft_wrap=True, highlight=False)
    table = Table("", title=title, title_justify="left")
    for header in next(iter(figures.values())):
        table.add_column(header, justify="right", overflow="fold")
    for name, row in figures.items():
        table.add_row(name, *row.values())
    screen.print(table)
    screen.print("\n".join(lines), markup=False)

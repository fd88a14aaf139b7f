"""What a local run or an experiment ends with: the comparison, where everything lies, and what to do next."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from data_contracts.evaluation import EvaluationReport
from pipelines import experiment_report
from pipelines.local import LocalRun

WIDTH = 120  # the table's; a log or a pipe has no width of its own
COLUMNS = ("recall@5", "recall@10", "ndcg@5", "ndcg@10", "ilad", "novelty")


def show(run: LocalRun) -> None:
    """Print the table of comparators, the gate's decision, the places and the next commands."""
    screen = Console(width=max(WIDTH, Console().width), soft_wrap=True)
    report = EvaluationReport.read(run.artifact("evaluate", "report"))
    screen.print(_table(report))
    screen.print(run.artifact("gate", "decision").read_text(encoding="utf-8"), markup=False)
    places = {
        "report": run.artifact("evaluate", "html"),
        "MLflow": run.tracking_uri,
        "artifacts": run.folder,
        "log": run.folder / "run.log",
    }
    for name, place in places.items():
        screen.print(f"{name + ':':<10} {place}", markup=False, highlight=False)
    screen.print("\nNext:", style="bold")
    screen.print(f"  mlflow ui --backend-store-uri {run.tracking_uri}", markup=False, highlight=False)
    if run.has_registered:
        promote = f"  recllm promote --model {run.model_name} --tracking-uri {run.tracking_uri}"
        screen.print(promote, markup=False, highlight=False)
    else:
        screen.print("  nothing to promote: the gate registered no version of this run", markup=False)


def show_experiment(folder: Path) -> None:
    """Print an experiment's question, its variants side by side, the verdict and where the report lies."""
    screen = Console(width=max(WIDTH, Console().width), soft_wrap=True)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    table = Table("variant", title=report["question"], title_justify="left")
    for header in experiment_report.HEADERS:
        table.add_column(header, justify="right")
    for variant, row in report["variants"].items():
        table.add_row(variant, *experiment_report.cells(row))
    screen.print(table)
    screen.print(experiment_report.verdict(report["variants"]), markup=False)
    screen.print(f"{'report:':<10} {folder / 'report.html'}", markup=False, highlight=False)


def _table(report: EvaluationReport) -> Table:
    sample = report.sample
    table = Table(
        title=f"{sample.users} of {sample.users_available} test users, full catalogue of "
        f"{sample.catalogue_items} items, recall ceiling {sample.recall_ceiling:.3f}",
        title_justify="left",
    )
    table.add_column("comparator")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    table.add_column(f"ndcg@10 {sample.confidence:.0%} interval", justify="right")
    table.add_column("valid", justify="right")
    for one in report.comparators:
        interval = one.ndcg_at_10_interval
        table.add_row(
            one.name,
            *(f"{one.metrics[name]:.4f}" for name in COLUMNS),
            f"{interval.low:.4f} to {interval.high:.4f}",
            f"{one.answers.valid_share:.0%}" if one.answers else "",
        )
    return table

"""The list of the project's runs."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from components.shared import kubeflow
from pipelines.cluster import progress, tables
from pipelines.cluster.client import Client
from pipelines.cluster.submit import find_pipeline

_SHOWN = 20


def show(client: Client) -> None:
    """Print the newest runs with their states and failing steps."""
    rows = (_row(run) for run in islice(_newest(client), _SHOWN))
    tables.show(("run", "name", "state", "began (UTC)", "took"), rows)


def _newest(client: Client) -> Iterator[dict[str, Any]]:
    pipeline = find_pipeline(client)
    for run in client.pages("runs", "runs", page_size=_SHOWN, sort_by="created_at desc"):
        if pipeline and run.get("pipeline_version_reference", {}).get("pipeline_id") == pipeline:
            yield run


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    failing = kubeflow.failing_step(run)
    state = run.get("state", "pending").lower() + (f" in {failing}" if failing else "")
    began = run["created_at"][:16].replace("T", " ")
    return run["run_id"], run["display_name"], state, began, f"{progress.duration(run):.0f} s"

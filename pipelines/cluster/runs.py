"""The list of the project's runs."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from components.shared import kubeflow
from pipelines.cluster import progress, tables
from pipelines.cluster.client import Client
from pipelines.cluster.submit import find_pipeline, versions_of

_SHOWN = 20


def show(client: Client) -> None:
    """Print the newest runs with their versions, states and failing steps."""
    pipeline_id = find_pipeline(client)
    versions = versions_of(client, pipeline_id) if pipeline_id else []
    # A schedule's runs have names that Kubernetes gives.
    names = {version["pipeline_version_id"]: version["display_name"] for version in versions}
    rows = (
        _row(run, names) for run in client.pages("runs", "runs", page_size=_SHOWN, sort_by="created_at desc")
    )
    tables.show(("run", "version", "state", "began (UTC)", "took"), islice(filter(None, rows), _SHOWN))


def _row(run: dict[str, Any], names: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the run's row; None if it is of another pipeline."""
    name = names.get(run.get("pipeline_version_reference", {}).get("pipeline_version_id", ""))
    if name is None:
        return None
    failing = kubeflow.failing_step(run)
    state = run.get("state", "pending").lower() + (f" in {failing}" if failing else "")
    began = run["created_at"][:16].replace("T", " ")
    return run["run_id"], name, state, began, f"{progress.duration(run):.0f} s"

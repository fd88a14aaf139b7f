"""The runs of the past: each one's window and key, recorded in MLflow."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.shared.tracking import runs

_TAG = runs.WINDOW


@dataclass(frozen=True, kw_only=True)
class Record:
    """A run of the past."""

    run_id: str
    """The pipeline's run id."""
    mlflow_run: str
    as_of: str
    started: datetime

    def __str__(self) -> str:
        return f"{self.run_id} ({self.started:%Y-%m-%d %H:%M} UTC)"


class History:
    """The records of one MLflow experiment, of which one is this run's."""

    def __init__(self, client: MlflowClient, experiment_id: str, run_id: str) -> None:
        self._client, self._experiment, self._run_id = client, experiment_id, run_id
        self._record = ""

    def begin(self, data_key: str, as_of: str) -> None:
        """Record this run's data and the window that it would take."""
        tags = {"data_key": data_key, "as_of": as_of, "run_id": self._run_id}
        named = {"step": "window", **{_TAG + name: text for name, text in tags.items()}}
        run = self._client.create_run(self._experiment, tags=named, run_name=self._run_id)
        self._record = run.info.run_id

    def earliest(self, *, others: bool = False, **tags: str) -> Record | None:
        """Return the earliest record with these tags, on request of `others` than this run."""
        conditions = [f"tags.`{_TAG}{name}` = '{text}'" for name, text in tags.items()]
        if others:
            conditions.append(f"tags.`{_TAG}run_id` != '{self._run_id}'")
        order = ["attributes.start_time ASC"]
        found = self._client.search_runs(
            [self._experiment], " and ".join(conditions), max_results=1, order_by=order
        )
        return _record(found[0]) if found else None

    def complete(self, as_of: str, run_key: str, lineage: Mapping[str, str]) -> None:
        """Record the window and the key that this run has been given.

        The first run of a key takes its name, and the runs of the steps nest in it, which end it; later ones
        nest there as well.
        """
        tags = {"as_of": as_of, "run_key": run_key, "lineage": json.dumps(lineage)}
        for name, text in tags.items():
            self._client.set_tag(self._record, _TAG + name, text)
        first = self.earliest(run_key=run_key)
        is_first = not first or first.mlflow_run == self._record
        if first and not is_first:
            self._client.set_tag(self._record, MLFLOW_PARENT_RUN_ID, first.mlflow_run)
        else:
            self._client.update_run(self._record, name=run_key)
        runs.log_data(self._client, self._record, dict(lineage))
        if not is_first or os.environ.get(runs.PLUGIN_RUN):  # no step will end it
            self._client.set_terminated(self._record)


def _record(run: Run) -> Record:
    tags = run.data.tags
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    return Record(
        run_id=tags[f"{_TAG}run_id"],
        mlflow_run=run.info.run_id,
        as_of=tags[f"{_TAG}as_of"],
        started=started,
    )

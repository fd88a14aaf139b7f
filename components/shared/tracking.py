"""Figures of a training in MLflow while it runs, where MLFLOW_TRACKING_URI names a server or a database.

As everywhere with MLflow, MLFLOW_EXPERIMENT_NAME names the experiment. A training has one MLflow run, which
a resumed training goes on with. A server that fails costs figures, never the training.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.shared.outputs import write_text

DEFAULT_EXPERIMENT = "recllm-r1"
RUN_KEY = "RECLLM_RUN_KEY"
"""Environment variable with the pipeline run's key, which becomes a tag of the MLflow run."""

_RUN_FILE = "mlflow_run_id.txt"


class Tracker:
    """Logs to one MLflow run; without a client it does nothing."""

    def __init__(self, client: Any = None, run_id: str = "") -> None:
        self._client, self._run_id = client, run_id

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the `figures` of `step` under their names, "@" spelt out, which MLflow refuses."""
        if self._client is None or not figures:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name.replace("@", "_at_"), value, now, step) for name, value in figures.items()]
        self._try(self._client.log_batch, self._run_id, metrics=metrics)

    def end(self, status: str) -> None:
        """Tell MLflow how the training ended: FINISHED or FAILED."""
        if self._client is not None:
            self._try(self._client.set_terminated, self._run_id, status)

    def _try(self, call: Any, *arguments: Any, **options: Any) -> None:
        try:
            call(*arguments, **options)
        except Exception as error:
            _tell(error)
            self._client = None


NO_TRACKING = Tracker()


@contextmanager
def tracker(step: str, place: Path) -> Iterator[Tracker]:
    """Yield what logs the training of `step`, whose checkpoints lie in `place`."""
    tracking = _started(step, place) if os.environ.get("MLFLOW_TRACKING_URI") else Tracker()
    try:
        yield tracking
    except BaseException:
        tracking.end("FAILED")
        raise
    tracking.end("FINISHED")


def _started(step: str, place: Path) -> Tracker:
    # MLflow's client asks a server that is away again for minutes; a training has better things to do.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    try:
        from components.shared import mlflow_client

        client = mlflow_client.connect("", create=True)
        file = place / _RUN_FILE
        if file.is_file():
            run_id = file.read_text().strip()
            client.update_run(run_id, "RUNNING")
        else:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
            experiment = mlflow_client.experiment_id(client, name)
            tags = {"step": step} | ({"run_key": os.environ[RUN_KEY]} if RUN_KEY in os.environ else {})
            run_id = client.create_run(experiment, run_name=place.name, tags=tags).info.run_id
            write_text(file, run_id)
    except Exception as error:
        _tell(error)
        return Tracker()
    return Tracker(client, run_id)


def _tell(error: Exception) -> None:
    print(f"MLflow: figures are no longer logged ({type(error).__name__}: {error})", flush=True)

"""Live tracking of a training in MLflow, if MLFLOW_TRACKING_URI names a server or a database.

As everywhere with MLflow, MLFLOW_EXPERIMENT_NAME names the experiment. A training has one MLflow run, nested
in that of the pipeline run, which a resumed training continues; steps that it repeats are logged again. A
server that fails costs figures, never the training.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.shared.artifacts import checkpoint_store
from components.shared.artifacts.outputs import write_text
from components.shared.config import to_json
from components.shared.logs import logger

RETRY_SECONDS = 300.0
"""Pause after a failure: every attempt may cost a server's whole timeout."""

log = logger("mlflow")


class Tracker:
    """Logs a training to one MLflow run; without a client it does nothing."""

    def __init__(self, client: Any = None, run_id: str = "") -> None:
        self._client, self._run_id = client, run_id
        self._silent_until = 0.0

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the `figures` of `step`; "@" in their names, which MLflow refuses, becomes "_at_"."""
        if self._client is None or time.monotonic() < self._silent_until:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name.replace("@", "_at_"), value, now, step) for name, value in figures.items()]
        if not self._try(lambda: self._client.log_batch(self._run_id, metrics=metrics)):
            self._silent_until = time.monotonic() + RETRY_SECONDS

    def log_config(self, config: Any) -> None:
        """Log the dataclass `config` as parameters, nested names joined by dots."""
        from mlflow.entities import Param

        params = [Param(name, value) for name, value in _flat(json.loads(to_json(config)))]
        self._try(lambda: self._client.log_batch(self._run_id, params=params))

    def end(self, status: str) -> None:
        """Set the run's status: FINISHED or FAILED."""
        if self._client is not None:
            from components.shared.tracking import runs

            self._try(lambda: runs.end(self._client, self._run_id, status))

    def _try(self, call: Callable[[], None]) -> bool:
        try:
            call()
            return True
        except Exception as error:
            _warn(error)
            return False


NO_TRACKING = Tracker()


@contextmanager
def tracker(step: str, checkpoint_dir: Path, config: Any) -> Iterator[Tracker]:
    """Yield the tracker of the training of `step` by `config`, a dataclass."""
    tracking = NO_TRACKING
    if os.environ.get("MLFLOW_TRACKING_URI"):
        try:
            tracking = _start(step, checkpoint_dir)
            tracking.log_config(config)
        except Exception as error:
            _warn(error)
    try:
        yield tracking
    except BaseException:
        tracking.end("FAILED")
        raise
    tracking.end("FINISHED")


def _start(step: str, checkpoint_dir: Path) -> Tracker:
    """Return the tracker of a new run, or of an earlier attempt's run."""
    from components.shared.tracking import mlflow_client, runs

    client, experiment = mlflow_client.connect_briefly(), mlflow_client.configured_experiment()
    file = checkpoint_dir / "mlflow_run_id.txt"
    if file.is_file() and not os.environ.get(runs.PLUGIN_RUN):
        run_id = file.read_text()
        client.update_run(run_id, "RUNNING")
        runs.adopt(client, experiment, run_id)
    else:
        run_id = runs.start(client, experiment, step)
        write_text(file, run_id)
        checkpoint_store.push(checkpoint_dir)
    return Tracker(client, run_id)


def _flat(settings: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, str]]:
    """Yield names, in the characters that MLflow accepts, and values of nested settings."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{section}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            yield re.sub(r"[^A-Za-z0-9_.\- ]", "_", section + name), text


def _warn(error: Exception) -> None:
    log.warning("MLflow does not accept the figures (%s: %s)", type(error).__name__, error)

"""A pipeline run's MLflow run, named by its run key, with its steps' runs nested.

Where Kubeflow's MLflow plug-in has made a run for the task (MLFLOW_RUN_ID), the step logs into that one.
"""

import json
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID

from components.shared.tracking import PIPELINE_RUN, mlflow_client
from data_contracts.evaluation import Lineage

PLUGIN_RUN = "MLFLOW_RUN_ID"
"""Environment variable with the run that Kubeflow's MLflow plug-in has made for a task."""
WINDOW = "window."
"""Prefix of the tags of a pipeline run's own record."""
STEP = "step"
LAST = "evaluate"
"""The step with whose end the pipeline's run is finished: a gate may let nothing follow."""


def start(client: MlflowClient, experiment: str, step: str, tags: Mapping[str, str] | None = None) -> str:
    """Return the id of a run for `step`, nested in the pipeline's run."""
    tags = {STEP: step, **(tags or {})}
    if pipeline := os.environ.get(PIPELINE_RUN):
        tags["pipeline_run"] = pipeline
    if run_id := os.environ.get(PLUGIN_RUN, ""):
        for name, text in tags.items():
            client.set_tag(run_id, name, text)
    else:
        own = client.create_run(mlflow_client.experiment_id(client, experiment), tags=tags, run_name=step)
        run_id = own.info.run_id
    adopt(client, experiment, run_id)
    return run_id


def adopt(client: MlflowClient, experiment: str, run_id: str) -> None:
    """Nest a run in the pipeline's run, if there is one, with its data."""
    pipeline = os.environ.get(PIPELINE_RUN)
    same = f"tags.`{WINDOW}run_id` = '{pipeline}'"
    experiments = [mlflow_client.experiment_id(client, experiment)]
    found = client.search_runs(experiments, same, max_results=1) if pipeline else []
    if not found:
        return
    # A repeated pipeline run is itself nested in the first one of its run key.
    parent = client.get_run(found[0].data.tags.get(MLFLOW_PARENT_RUN_ID, found[0].info.run_id))
    if parent.inputs:
        client.log_inputs(run_id, parent.inputs.dataset_inputs)
    if not os.environ.get(PLUGIN_RUN):  # which has nested its own
        client.set_tag(run_id, MLFLOW_PARENT_RUN_ID, parent.info.run_id)
        client.update_run(parent.info.run_id, "RUNNING")


def end(client: MlflowClient, run_id: str, status: str) -> None:
    """End a step's run with FINISHED or FAILED, and the pipeline's, if it ends here."""
    client.set_terminated(run_id, status)
    tags = client.get_run(run_id).data.tags
    parent, is_end = tags.get(MLFLOW_PARENT_RUN_ID), status == "FAILED" or tags[STEP] == LAST
    if parent and is_end and not os.environ.get(PLUGIN_RUN):  # whose plug-in sets it
        client.set_terminated(parent, status)


def log_data(client: MlflowClient, run_id: str, lineage: Lineage) -> None:
    """Log the raw data of `lineage`, by URI and digest, as input."""
    uri, digest = str(lineage.get("data", "")), str(lineage.get("data_fingerprint", ""))
    if uri and digest:
        context = InputTag(MLFLOW_DATASET_CONTEXT, "raw data")
        client.log_inputs(run_id, [DatasetInput(_dataset(uri, digest), [context])])


def _dataset(uri: str, digest: str) -> Dataset:
    name, scheme = uri.rstrip("/").rpartition("/")[2], urlsplit(uri).scheme or "local"
    return Dataset(name=name, digest=digest, source_type=scheme, source=json.dumps({"uri": uri}))

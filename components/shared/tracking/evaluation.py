"""An evaluation as an MLflow run: every comparator's figures, the report and every user's values."""

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric

from components.shared.artifacts.fingerprint import of_text
from components.shared.logs import logger
from components.shared.tracking import mlflow_client, runs
from components.shared.tracking.registry import RUN_KEY
from data_contracts.evaluation import REPORT, USERS, EvaluationReport

LONGEST_TAG = 5000  # MLflow servers before 3 refuse more; the whole lineage is an artifact as well

log = logger("mlflow")


def try_log(report: EvaluationReport, users: Path) -> None:
    """Log the evaluation where MLFLOW_TRACKING_URI says; a server that fails costs the run alone."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return
    try:
        client = mlflow_client.connect_briefly()
        log_run(client, mlflow_client.configured_experiment(), report, users)
    except Exception as error:
        log.warning("MLflow does not accept the evaluation (%s: %s)", type(error).__name__, error)


def log_run(client: MlflowClient, experiment: str, report: EvaluationReport, users: Path) -> str:
    """Return the id of the one run of `report`, whose lineage has a run key.

    `users` is the table of every user's values. An interrupted call is resumed by the next.
    """
    tags = lineage_tags(report) | {"report": of_text(report.to_json())}
    same = {runs.STEP: runs.LAST, RUN_KEY: tags[RUN_KEY], "report": tags["report"]}
    query = " and ".join(f"tags.{name} = '{text}'" for name, text in same.items())
    found = client.search_runs([mlflow_client.experiment_id(client, experiment)], query, max_results=1)
    if found and found[0].info.status == "FINISHED":
        return str(found[0].info.run_id)
    run_id = str(found[0].info.run_id) if found else runs.start(client, experiment, runs.LAST, tags)
    try:
        runs.log_data(client, run_id, report.lineage)
        values = figures(report).items()
        client.log_batch(run_id, [Metric(name, value, timestamp=0, step=0) for name, value in values])
        client.log_text(run_id, report.to_json(), REPORT)
        client.log_dict(run_id, report.lineage, "lineage.json")
        with tempfile.TemporaryDirectory() as scratch:
            shutil.copyfile(users, Path(scratch) / USERS)
            client.log_artifact(run_id, str(Path(scratch) / USERS))
    except BaseException:
        with contextlib.suppress(Exception):  # the first failure is the cause to report
            runs.end(client, run_id, "FAILED")
        raise
    runs.end(client, run_id, "FINISHED")
    return run_id


def lineage_tags(report: EvaluationReport) -> dict[str, str]:
    """Return what is known of the lineage as tags."""
    return {plain_name(name): text[:LONGEST_TAG] for name, text in report.known_lineage().items()}


def figures(report: EvaluationReport) -> dict[str, float]:
    """Return every comparator's metrics; "/" groups them in MLflow's pages."""
    sample = report.sample
    values = {"sample/users": float(sample.users), "sample/recall_ceiling": sample.recall_ceiling}
    for found in report.comparators:
        interval = found.ndcg_at_10_interval
        metrics = found.metrics | {"ndcg@10_low": interval.low, "ndcg@10_high": interval.high}
        metrics |= {"valid_share": found.answers.valid_share} if found.answers else {}
        values |= {f"{plain_name(found.name)}/{plain_name(metric)}": v for metric, v in metrics.items()}
    return values


def plain_name(text: str) -> str:
    """Return `text` with only what MLflow accepts in names of tags and metrics."""
    return re.sub(r"[^\w\-. :]", "_", text.replace("@", "_at_"), flags=re.ASCII)

"""Register a model as the challenger, once a run; fetch the reigning champion."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from components.register import packaging, registry
from components.register.config import RegisterConfig
from components.register.registry import CHALLENGER, CHAMPION, PREVIOUS, RUN_KEY
from components.shared.artifacts.outputs import atomic_folder, write_text
from components.shared.errors import ConfigError, DataError, is_full_disk
from components.shared.tracking import mlflow_client
from data_contracts.evaluation import NO_MODEL, EvaluationReport

_LONGEST_TAG = 5000  # MLflow servers before 3 refuse more; the whole lineage is an artifact as well


@dataclass(frozen=True)
class RegisterInputs:
    """The Hugging Face folder of the model, its evaluation report, and what the run was made from."""

    model: Path
    report: Path
    lineage: dict[str, Any]


@dataclass(frozen=True)
class Registered:
    """The model version, and whether this call made it (False: the run had registered it before)."""

    name: str
    version: str
    run_id: str
    created: bool


def run(config: RegisterConfig, inputs: RegisterInputs, version_info: Path) -> Registered:
    """Register the model as a new version with the alias `challenger`; write `version_info` (Markdown).

    One version a `run_key` of the lineage: a second call returns the version of the first. The version
    is created last, with all its tags, so that an interrupted call leaves none.

    Raises:
        ConfigError: no `run_key`, or no registry at the tracking URI. DataError: no readable report.
        ModelError: no model folder.
    """
    key = _run_key(inputs.lineage)
    packaging.check_folder(inputs.model)
    try:
        report = EvaluationReport.read(inputs.report)
    except ValueError as error:
        raise DataError(str(error)) from error
    client = mlflow_client.connect(config.tracking_uri, create=True)
    with mlflow_client.readable_errors(client.tracking_uri):
        registry.ensure_model(client, config.model_name)
        registered = _existing(client, config, key) or _create(client, config, inputs, report, key)
        _challenge(client, registered)
    write_text(version_info, _markdown(registered, client.tracking_uri, report))
    how = "is" if registered.created else "was already"
    print(f"register: {registered.name} version {registered.version} {how} registered", flush=True)
    return registered


def run_champion(config: RegisterConfig, folder: Path) -> str | None:
    """Download the champion's Hugging Face folder; return its version.

    Without a champion, `folder` holds only `none.txt`, which says so, and None is returned.

    Raises:
        ConfigError: the registry cannot be reached, or the version's files are gone.
    """
    version = None
    client = mlflow_client.connect(config.tracking_uri) if mlflow_client.exists(config.tracking_uri) else None
    if client:
        with mlflow_client.readable_errors(client.tracking_uri):
            version = registry.version_by_alias(client, config.model_name, CHAMPION)
    with atomic_folder(folder) as partial:
        if client is None or version is None:
            (partial / NO_MODEL).write_text(f"{config.model_name} has no champion yet\n")
            print(f"champion: {config.model_name} has none yet", flush=True)
            return None
        _download(client, config.model_name, version, partial)
    print(f"champion: {config.model_name} version {version}", flush=True)
    return version


def _run_key(lineage: Mapping[str, Any]) -> str:
    key = lineage.get(RUN_KEY)
    if not isinstance(key, str) or not re.fullmatch(r"[\w.:/ -]{1,200}", key):
        raise ConfigError(
            f"lineage: '{RUN_KEY}' is {key!r}; a model version belongs to one run, named by at most 200 "
            "letters, digits, spaces or any of . : / _ -"
        )
    return key


def _existing(client: MlflowClient, config: RegisterConfig, key: str) -> Registered | None:
    for one in registry.versions(client, config.model_name):
        if one.tags.get(RUN_KEY) == key:
            return Registered(config.model_name, str(one.version), one.run_id or "", created=False)
    return None


def _create(
    client: MlflowClient, config: RegisterConfig, inputs: RegisterInputs, report: EvaluationReport, key: str
) -> Registered:
    """Write a run with metrics and files, then the version that points to them."""
    tags = _tags(inputs.lineage)
    run_id = _run_id(client, config, key, tags)
    try:
        _log_metrics(client, run_id, report)
        client.log_text(run_id, report.to_json(), "report.json")
        client.log_text(run_id, json.dumps(inputs.lineage, indent=2, sort_keys=True), "lineage.json")
        with tempfile.TemporaryDirectory() as scratch:
            built = packaging.build(inputs.model, config.serving, Path(scratch))
            client.log_artifacts(run_id, str(built), "model")
        client.set_terminated(run_id)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    figures = _figures(report)
    version = client.create_model_version(config.model_name, source, run_id, tags=tags | figures)
    return Registered(config.model_name, str(version.version), run_id, created=True)


def _run_id(client: MlflowClient, config: RegisterConfig, key: str, tags: Mapping[str, str]) -> str:
    """Return the MLflow run of this run key: a new one, or the one that an interrupted call left."""
    experiment = mlflow_client.experiment_id(client, config.experiment)
    left = client.search_runs([experiment], f"tags.{RUN_KEY} = '{key}'", max_results=1)
    if left:
        return left[0].info.run_id
    return client.create_run(experiment, tags=dict(tags), run_name=key).info.run_id


def _log_metrics(client: MlflowClient, run_id: str, report: EvaluationReport) -> None:
    """Log every comparator's metrics; "/" groups them in MLflow's pages, "@" would be refused."""
    values = {
        "sample/users": float(report.sample.users),
        "sample/recall_ceiling": report.sample.recall_ceiling,
    }
    for one in report.comparators:
        values |= {f"{_name(one.name)}/{_name(metric)}": value for metric, value in one.metrics.items()}
        if one.answers:
            values[f"{_name(one.name)}/valid_share"] = one.answers.valid_share
    metrics = [Metric(name, value, timestamp=0, step=0) for name, value in values.items()]
    client.log_batch(run_id, metrics=metrics, tags=[RunTag("evaluated_split", report.sample.split)])


def _tags(lineage: Mapping[str, Any]) -> dict[str, str]:
    """Return the lineage as tags: texts as they are, other values as JSON, overlong ones cut."""
    texts = {
        _name(key): value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in lineage.items()
    }
    return {key: text[:_LONGEST_TAG] for key, text in texts.items()}


def _figures(report: EvaluationReport) -> dict[str, str]:
    """Return NDCG@10 and Recall@10 of every comparator as tags, readable in the list of versions."""
    return {
        f"{_name(one.name)}.{_name(metric)}": f"{one.metrics[metric]:.6f}"
        for one in report.comparators
        for metric in ("ndcg@10", "recall@10")
    }


def _name(text: str) -> str:
    """Return `text` with only what MLflow takes in names of tags and metrics."""
    return re.sub(r"[^\w\-. :]", "_", text.replace("@", "_at_"), flags=re.ASCII)


def _challenge(client: MlflowClient, registered: Registered) -> None:
    """Point `challenger` at the version unless a newer one has it or this one is past being one."""
    holder = registry.version_by_alias(client, registered.name, CHALLENGER)
    past = {registry.version_by_alias(client, registered.name, alias) for alias in (CHAMPION, PREVIOUS)}
    if registered.version not in past and (holder is None or int(holder) < int(registered.version)):
        client.set_registered_model_alias(registered.name, CHALLENGER, registered.version)


def _download(client: MlflowClient, name: str, version: str, folder: Path) -> None:
    """Copy the language model of a version, without MLflow's wrapping, into `folder`."""
    place = client.get_model_version_download_uri(name, version)

    def fetch(path: str, scratch: str) -> Path:
        uri = f"{place}/{path}"
        return Path(download_artifacts(artifact_uri=uri, dst_path=scratch, tracking_uri=client.tracking_uri))

    try:
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            flavor = Model.load(str(fetch("MLmodel", scratch))).flavors["python_function"]
            for path in fetch(flavor["artifacts"]["model"]["path"], scratch).iterdir():
                path.rename(folder / path.name)
    except (MlflowException, OSError, KeyError) as error:
        if is_full_disk(error):
            raise  # the version is whole
        raise ConfigError(
            f"{name} version {version} (alias {CHAMPION}): its files cannot be read from {place} ({error}); "
            "roll back to a version that is whole"
        ) from error


def _markdown(registered: Registered, tracking_uri: str, report: EvaluationReport) -> str:
    rows = [f"| {one.name} | {one.metrics['ndcg@10']:.4f} |" for one in report.comparators]
    name = registered.name
    return "\n".join(
        [
            f"## {name}, version {registered.version}",
            "",
            f"Registered at `{tracking_uri}`; load it with "
            f'`mlflow.pyfunc.load_model("models:/{name}@{CHALLENGER}")`, promote it with '
            f"`recllm promote {registered.version}`.",
            "",
            "| model | NDCG@10 |",
            "|---|---:|",
            *rows,
            "",
        ]
    )

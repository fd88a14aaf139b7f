"""Register a model as the challenger, once per run; fetch the champion."""

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import (
    LoggedModel,
    LoggedModelInput,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Run,
)
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS, MLFLOW_PARENT_RUN_ID

from components.register import packaging
from components.register.card import model_card
from components.register.config import RegisterConfig, RegistryConfig
from components.shared.artifacts.fingerprint import of_folder, of_text
from components.shared.artifacts.outputs import atomic_folder
from components.shared.config import to_json
from components.shared.errors import (
    ConfigError,
    DataError,
    ModelError,
    faults_as,
    full_disk_named,
    is_full_disk,
)
from components.shared.language_model.ranker import Ranker
from components.shared.logs import logger
from components.shared.reporting import page
from components.shared.tracking import evaluation, failures, mlflow_client, registry
from components.shared.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS, RUN_KEY
from data_contracts.evaluation import DATA_SUMMARY, NO_MODEL, REPORT, TRAINED_MODEL, EvaluationReport

log = logger("register")
champion_log = logger("champion")

_CONTENTS = "model_fingerprint"
"""Tag with what names model, retriever and serving configuration."""


def run(config: RegisterConfig, *, model: Path, served: Path, report: Path, users: Path, html: Path) -> str:
    """Return the run's version, with the alias `challenger`; write the page `html`.

    `served` is the folder from which retrieve answers further requests, `users` the evaluation's table of
    values per user.

    A `run_key` (of the report's lineage) has one version: a second call with the same files and settings
    returns it. The version is created last, with all its tags, so that an interrupted call leaves none.

    Raises: ConfigError if the run key has a version of another model, or MLflow refuses; ModelError;
    OutputError: a disk is full.
    """
    packaging.check_folder(model)
    with faults_as(DataError):
        evaluated = EvaluationReport.read(report)
    key = evaluated.lineage.get(RUN_KEY)
    if not isinstance(key, str) or not re.fullmatch(r"[\w.:/ -]{1,200}", key):
        raise ConfigError(
            f"{report}: '{RUN_KEY}' of its lineage is {key!r}; a model version belongs to one run, named by "
            "at most 200 letters, digits, spaces or any of . : / _ -"
        )
    client = mlflow_client.connect(config.tracking_uri, create=True)
    name, parts = config.model_name, {"model": model, "retriever": served}
    contents = of_text(*map(of_folder, parts.values()), to_json(config.serving))
    version_of_run = f"the version of {name} with the run key '{key}'"
    with full_disk_named(version_of_run), failures.readable_errors(client.tracking_uri):
        registry.ensure_model(client, name)
        found = registry.versions(client, name, key)
        if found and found[0].tags.get(_CONTENTS) != contents:
            raise ConfigError(
                f"{name} version {found[0].version} has this run's key '{key}', but is another model; "
                "start a run with a key of its own: --no-cache when it is submitted or compiled"
            )
        version = (
            str(found[0].version) if found else _create(client, config, parts, contents, evaluated, users)
        )
        _set_challenger(client, name, version)
    page.write(html, f"{name}, version {version}", _next_steps(client.tracking_uri, name, version))
    log.info("%s version %s %s registered", name, version, "was already" if found else "is")
    return version


def _next_steps(tracking_uri: str, name: str, version: str) -> list[page.Block]:
    commands = {
        "Load it": f'mlflow.pyfunc.load_model("models:/{name}@{CHALLENGER}")',
        "Promote it": f"recllm promote {version} --model {name}",
    }
    at = f"Registered at {failures.without_password(tracking_uri)}."
    return [page.Text(at), page.Table((), list(commands.items()), is_text=True)]


def run_champion(config: RegistryConfig, version: str, folder: Path) -> None:
    """Download the Hugging Face folder of the champion, which is `version`; "" writes only `none.txt`."""
    with atomic_folder(folder) as partial:
        if version:
            client = mlflow_client.connect(config.tracking_uri)
            with failures.readable_errors(client.tracking_uri):
                _download(client, config.model_name, version, partial)
                _check_version(config.model_name, version, partial)  # training comes after this step
                _write_data_summary(client, config.model_name, version, partial)
        else:
            (partial / NO_MODEL).write_text(f"{config.model_name} has no champion yet\n")
    champion_log.info("%s: %s", config.model_name, f"version {version}" if version else "none yet")


def _create(
    client: MlflowClient,
    config: RegisterConfig,
    parts: Mapping[str, Path],
    contents: str,
    report: EvaluationReport,
    users: Path,
) -> str:
    """Return the new version; its evaluation's run and its logged model are written first."""
    run_id = evaluation.log_run(client, config.experiment, report, users)
    run = client.get_run(run_id)
    tags = evaluation.lineage_tags(report) | {
        _CONTENTS: contents,
        "libraries": ", ".join(packaging.requirements(parts["model"])),
    }
    # MLflow's table of runs shows a model at its source run alone, whatever log_outputs has linked.
    source = run.data.tags.get(MLFLOW_PARENT_RUN_ID, run_id)
    logged = _logged_model(client, run.info.experiment_id, source, tags)
    if logged.status != LoggedModelStatus.READY:
        with tempfile.TemporaryDirectory() as scratch:
            built = packaging.build(parts, config.serving, Path(scratch))
            client.log_model_artifacts(logged.model_id, str(built))
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    _link(client, run, source, logged.model_id, report)
    with mlflow_client.as_default(client):
        version = client.create_model_version(
            config.model_name,
            f"models:/{logged.model_id}",
            run_id,
            tags=tags | {registry.GATE: registry.PASSED},
            description=model_card(report),
            model_id=logged.model_id,
        ).version
    # A server does this itself; MLflow's pages link the logged model with its version by it.
    linked = json.dumps([{"name": config.model_name, "version": version}])
    client.set_logged_model_tags(logged.model_id, {MLFLOW_MODEL_VERSIONS: linked})
    return str(version)


def _logged_model(client: MlflowClient, experiment: str, source: str, tags: Mapping[str, str]) -> LoggedModel:
    """Return the logged model of the run `source`; an interrupted call has left it."""
    same = f"source_run_id = '{source}' and tags.{_CONTENTS} = '{tags[_CONTENTS]}'"
    found = client.search_logged_models([experiment], same, max_results=1)
    return (
        found[0]
        if found
        else client.create_logged_model(
            experiment, TRAINED_MODEL, source, tags=dict(tags), model_type="recommender"
        )
    )


def _link(client: MlflowClient, run: Run, source: str, model_id: str, report: EvaluationReport) -> None:
    """Give the logged model its metrics, and its links with `run` and `source`."""
    data = [found.dataset for found in run.inputs.dataset_inputs] if run.inputs else []
    measured_on = {"dataset_name": data[0].name, "dataset_digest": data[0].digest} if data else {}
    client.log_batch(
        run.info.run_id,
        [
            Metric(name, value, timestamp=0, step=0, model_id=model_id, **measured_on)
            for name, value in evaluation.figures(report).items()
            if name.startswith(f"{TRAINED_MODEL}/")
        ],
    )
    client.log_inputs(run.info.run_id, models=[LoggedModelInput(model_id)])
    if source != run.info.run_id:
        client.log_outputs(source, [LoggedModelOutput(model_id, step=0)])


def _set_challenger(client: MlflowClient, name: str, version: str) -> None:
    """Make the version `challenger` unless a newer one is, or this one was champion."""
    aliases = registry.aliases(client, name)
    was_champion = version in (aliases.get(CHAMPION), aliases.get(PREVIOUS))
    if not was_champion and int(aliases.get(CHALLENGER, 0)) < int(version):
        client.set_registered_model_alias(name, CHALLENGER, version)


def _write_data_summary(client: MlflowClient, name: str, version: str, folder: Path) -> None:
    """Write what the version's training data were like, if its evaluation kept it."""
    run_id = client.get_model_version(name, version).run_id
    if not run_id or REPORT not in registry.recorded(client, run_id):
        return  # registered by other means
    with tempfile.TemporaryDirectory() as scratch:
        report = json.loads(registry.download(client, run_id, REPORT, scratch).read_text("utf-8"))
    if summary := report.get("data"):  # an older version of the report has none
        (folder / DATA_SUMMARY).write_text(json.dumps(summary), encoding="utf-8")


def _check_version(name: str, version: str, model: Path) -> None:
    """Raise ConfigError if this code cannot rank with `model`."""
    try:
        Ranker.read(model)
    except ModelError as error:
        raise ConfigError(
            f"{name} version {version} (alias {CHAMPION}) ranks in a way of another version of the project "
            f"({error.__cause__}); promote a version that this code reads, or delete the alias, and the next "
            "model is compared without a champion"
        ) from error


def _download(client: MlflowClient, name: str, version: str, folder: Path) -> None:
    """Copy the language model of a version, without MLflow's packaging, into `folder`."""
    source = client.get_model_version_download_uri(name, version)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            packaged = Path(
                download_artifacts(artifact_uri=source, dst_path=scratch, tracking_uri=client.tracking_uri)
            )
            flavor = Model.load(str(packaged)).flavors["python_function"]
            for path in (packaged / flavor["artifacts"]["model"]["path"]).iterdir():
                path.rename(folder / path.name)
    except (MlflowException, OSError, KeyError) as error:
        if is_full_disk(error):
            raise  # the version is not corrupt
        unread = f"{name} version {version} (alias {CHAMPION}): its files cannot be read from {source}"
        if failures.status(error) not in (None, 404):  # what a server refuses may be there
            raise ConfigError(f"{unread} ({failures.describe(error)})") from error
        raise ConfigError(f"{unread} ({error}); roll back to a version that is complete") from error

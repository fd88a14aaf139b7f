"""Register a model as the challenger, once per run; fetch the champion."""

import json
import re
import shutil
import tempfile
from pathlib import Path

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from components.register import packaging
from components.register.card import model_card
from components.register.config import RegisterConfig, RegistryConfig
from components.shared.artifacts.fingerprint import of_folder
from components.shared.artifacts.outputs import atomic_folder
from components.shared.errors import ConfigError, DataError, faults_as, is_full_disk
from components.shared.logs import logger
from components.shared.reporting import page
from components.shared.tracking import failures, mlflow_client, registry
from components.shared.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS, RUN_KEY
from data_contracts.evaluation import NO_MODEL, REPORT, USERS, EvaluationReport

log = logger("register")
champion_log = logger("champion")

_CONTENTS = "model_fingerprint"
_LONGEST_TAG = 5000  # MLflow servers before 3 refuse more; the whole lineage is an artifact as well


def run(config: RegisterConfig, *, model: Path, report: Path, users: Path, html: Path) -> str:
    """Return the run's version, with the alias `challenger`; write the page `html`.

    `users` is the evaluation's table of values per user.

    A `run_key` (of the report's lineage) has one version: a second call with the same model returns it. The
    version is created last, with all its tags, so that an interrupted call leaves none.

    Raises: ConfigError if the run key has a version of another model, or MLflow refuses; ModelError.
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
    name, contents = config.model_name, of_folder(model)
    with failures.readable_errors(client.tracking_uri):
        registry.ensure_model(client, name)
        found = registry.versions(client, name, key)
        if found and found[0].tags.get(_CONTENTS) != contents:
            raise ConfigError(
                f"{name} version {found[0].version} has this run's key '{key}', but is another model; "
                "start a run with a key of its own: --no-cache when it is submitted or compiled"
            )
        version = (
            str(found[0].version) if found else _create(client, config, model, contents, evaluated, users)
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
    return [page.Text(f"Registered at {tracking_uri}."), page.Table((), list(commands.items()), is_text=True)]


def run_champion(config: RegistryConfig, version: str, folder: Path) -> None:
    """Download the Hugging Face folder of the champion, which is `version`; "" writes only `none.txt`."""
    with atomic_folder(folder) as partial:
        if version:
            client = mlflow_client.connect(config.tracking_uri)
            with failures.readable_errors(client.tracking_uri):
                _download(client, config.model_name, version, partial)
        else:
            (partial / NO_MODEL).write_text(f"{config.model_name} has no champion yet\n")
    champion_log.info("%s: %s", config.model_name, f"version {version}" if version else "none yet")


def _create(
    client: MlflowClient,
    config: RegisterConfig,
    model: Path,
    contents: str,
    report: EvaluationReport,
    users: Path,
) -> str:
    """Return the new version; its run, with metrics and files, is written first."""
    texts = {
        name: text if isinstance(text, str) else json.dumps(text) for name, text in report.lineage.items()
    }
    tags = {_name(name): text[:_LONGEST_TAG] for name, text in texts.items()} | {_CONTENTS: contents}
    key, experiment = tags[RUN_KEY], mlflow_client.experiment_id(client, config.experiment)
    same = f"tags.{RUN_KEY} = '{key}' and tags.{_CONTENTS} = '{contents}'"
    interrupted = client.search_runs([experiment], same, max_results=1)
    run = interrupted[0] if interrupted else client.create_run(experiment, tags=tags, run_name=key)
    run_id = run.info.run_id
    try:
        _log_metrics(client, run_id, report)
        client.log_text(run_id, report.to_json(), REPORT)
        client.log_dict(run_id, report.lineage, "lineage.json")
        with tempfile.TemporaryDirectory() as scratch:
            built = packaging.build(model, config.serving, Path(scratch))
            client.log_artifacts(run_id, str(built), "model")
            shutil.copyfile(users, Path(scratch) / USERS)
            client.log_artifact(run_id, str(Path(scratch) / USERS))
        client.set_terminated(run_id)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    source, card = f"{run.info.artifact_uri}/model", model_card(report)
    tags[registry.GATE] = registry.PASSED
    return str(
        client.create_model_version(config.model_name, source, run_id, tags=tags, description=card).version
    )


def _log_metrics(client: MlflowClient, run_id: str, report: EvaluationReport) -> None:
    """Log every comparator's metrics; "/" groups them in MLflow's pages."""
    sample = report.sample
    values = {"sample/users": float(sample.users), "sample/recall_ceiling": sample.recall_ceiling}
    for found in report.comparators:
        interval = found.ndcg_at_10_interval
        metrics = found.metrics | {"ndcg@10_low": interval.low, "ndcg@10_high": interval.high}
        metrics |= {"valid_share": found.answers.valid_share} if found.answers else {}
        values |= {f"{_name(found.name)}/{_name(metric)}": value for metric, value in metrics.items()}
    client.log_batch(run_id, [Metric(name, value, timestamp=0, step=0) for name, value in values.items()])


def _name(text: str) -> str:
    """Return `text` with only what MLflow accepts in names of tags and metrics."""
    return re.sub(r"[^\w\-. :]", "_", text.replace("@", "_at_"), flags=re.ASCII)


def _set_challenger(client: MlflowClient, name: str, version: str) -> None:
    """Make the version `challenger` unless a newer one is, or this one was champion."""
    aliases = registry.aliases(client, name)
    was_champion = version in (aliases.get(CHAMPION), aliases.get(PREVIOUS))
    if not was_champion and int(aliases.get(CHALLENGER, 0)) < int(version):
        client.set_registered_model_alias(name, CHALLENGER, version)


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

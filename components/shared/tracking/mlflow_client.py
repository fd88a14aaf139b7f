"""MLflow clients of a server or an SQLite database."""

import os
from contextlib import AbstractContextManager
from pathlib import Path

import requests
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_TRACKING_INSECURE_TLS, MLFLOW_TRACKING_SERVER_CERT_PATH

from components.shared import environment
from components.shared.errors import ConfigError
from components.shared.tracking import relocation
from components.shared.tracking.failures import readable_errors, without_password

SQLITE = "sqlite:///"


def connect(tracking_uri: str, *, create: bool = False) -> MlflowClient:
    """Return a client for `tracking_uri`, or for MLFLOW_TRACKING_URI if it is empty.

    `create` allows an SQLite database that does not exist yet.

    Raises: ConfigError if there is no URI, no answer from the server, or no database.
    """
    uri = _configured(tracking_uri)
    if not uri:
        raise ConfigError(
            "register.tracking_uri is empty and MLFLOW_TRACKING_URI is not set; name an MLflow server "
            "(http://…) or a local database (sqlite:///…/mlflow.db)"
        )
    if is_served(uri):
        _check_reachable(uri)
    elif not uri.startswith(SQLITE):
        raise ConfigError(
            f"register.tracking_uri: {without_password(uri)!r} is neither http(s)://… nor {SQLITE}…; these "
            "two are tested"
        )
    elif create:
        folder = _database(uri).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"register.tracking_uri: {folder} cannot be made ({error})") from error
    elif not exists(uri):
        raise ConfigError(f"no database at {uri}; register a model first, or name another registry")
    with readable_errors(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        if uri.startswith(SQLITE):
            relocation.follow(_database(uri))
    return client


def connect_briefly() -> MlflowClient:
    """Return a client for MLFLOW_TRACKING_URI that soon gives up, for what can do without."""
    # By default MLflow's client waits minutes for a server that does not answer.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    return connect("", create=True)


def as_default(client: MlflowClient) -> AbstractContextManager[None]:
    """Make the client's URI MLflow's default, where its SQL registry looks up logged models."""
    return environment.set_to({"MLFLOW_TRACKING_URI": client.tracking_uri})


def exists(tracking_uri: str) -> bool:
    """Return whether `tracking_uri` is a server or an SQLite database that exists."""
    uri = _configured(tracking_uri)
    return not uri.startswith(SQLITE) or _database(uri).is_file()


def is_served(tracking_uri: str) -> bool:
    """Return whether `tracking_uri` names a server."""
    return _configured(tracking_uri).startswith(("http://", "https://"))


def _database(uri: str) -> Path:
    return Path(uri.removeprefix(SQLITE))


def _configured(tracking_uri: str) -> str:
    return tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")


def configured_experiment() -> str:
    """Return the experiment that MLFLOW_EXPERIMENT_NAME names."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "recllm-r1"


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of the experiment `name`, which is created if it is missing."""
    found = client.get_experiment_by_name(name)
    if found is None:
        uri, artifacts = client.tracking_uri, None  # a server chooses the artifacts' location
        if uri.startswith(SQLITE):
            artifacts = relocation.artifact_root(_database(uri))
        return client.create_experiment(name, artifacts)
    if found.lifecycle_stage == "deleted":
        raise ConfigError(f"register.experiment: '{name}' is deleted; restore it or choose another name")
    return found.experiment_id


def _check_reachable(uri: str) -> None:
    """Raise ConfigError unless the server answers: MLflow's own client retries for minutes."""
    certificates = MLFLOW_TRACKING_SERVER_CERT_PATH.get() or not MLFLOW_TRACKING_INSECURE_TLS.get()
    try:
        # Whatever it answers: the first real call finds out whether it is MLflow and accepts us.
        requests.get(f"{uri.rstrip('/')}/health", timeout=10, verify=certificates, allow_redirects=False)
    except (OSError, ValueError) as error:
        reason = without_password(str(error))
        raise ConfigError(
            f"register.tracking_uri: no answer from {without_password(uri)} ({reason}); is it running?"
        ) from error

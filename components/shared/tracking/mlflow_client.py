"""MLflow clients, and MLflow's failures as errors that a user can act on."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from components.shared.errors import ConfigError

SQLITE = "sqlite:///"

_REACH_SECONDS = 10


def connect(tracking_uri: str, *, create: bool = False) -> MlflowClient:
    """Return a client for `tracking_uri`, or for MLFLOW_TRACKING_URI if it is empty.

    `create` allows an SQLite database that does not exist yet.

    Raises:
        ConfigError: no URI, no answer from the server, or no database.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise ConfigError(
            "register.tracking_uri is empty and MLFLOW_TRACKING_URI is not set; name an MLflow server "
            "(http://…) or a local database (sqlite:///…/mlflow.db)"
        )
    if uri.startswith(("http://", "https://")):
        _check_reachable(uri)
    elif uri.startswith(SQLITE):
        database = Path(uri.removeprefix(SQLITE))
        if not database.is_file() and not create:
            raise ConfigError(f"register.tracking_uri: no database at {database}; register a model first")
        try:
            database.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"register.tracking_uri: {database.parent} cannot be made ({error})") from error
    else:
        raise ConfigError(
            f"register.tracking_uri: {uri!r} is neither http(s)://… nor {SQLITE}…; these two are tested"
        )
    with readable_errors(uri):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def exists(tracking_uri: str) -> bool:
    """Return whether `tracking_uri` is a server or an SQLite database that exists."""
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    return not uri.startswith(SQLITE) or Path(uri.removeprefix(SQLITE)).is_file()


@contextmanager
def readable_errors(source: str) -> Iterator[None]:
    """Turn what MLflow raises within the block into a ConfigError naming `source`."""
    try:
        yield
    except MlflowException as error:
        raise ConfigError(f"{source}: MLflow refuses ({error}); is the tracking URI right?") from error


def artifact_location(tracking_uri: str) -> str | None:
    """Return the artifact folder beside an SQLite database; None lets a server choose its own."""
    if not tracking_uri.startswith(SQLITE):
        return None
    return (Path(tracking_uri.removeprefix(SQLITE)).resolve().parent / "mlartifacts").as_uri()


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of the experiment `name`, which is created if it is missing."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location(client.tracking_uri))
        except MlflowException as error:  # another process has just created it
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise ConfigError(f"register.experiment: '{name}' is deleted; restore it or choose another name")
    return found.experiment_id


def _check_reachable(uri: str) -> None:
    """Raise ConfigError unless the server answers: MLflow's own client retries for minutes."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_REACH_SECONDS):
            return
    except urllib.error.HTTPError:
        return  # a server answers; the first real call finds out whether it is MLflow and accepts us
    except (OSError, ValueError) as error:
        raise ConfigError(f"register.tracking_uri: no answer from {uri} ({error}); is it running?") from error

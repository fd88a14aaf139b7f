"""Talking to MLflow: a client for a tracking URI, and its failures as errors a user can act on."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode

from components.shared.errors import ConfigError

ALREADY_EXISTS = ErrorCode.Name(RESOURCE_ALREADY_EXISTS)
DOES_NOT_EXIST = ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)
SQLITE = "sqlite:///"

_REACH_SECONDS = 10


def connect(tracking_uri: str, *, create: bool = False) -> MlflowClient:
    """Return a client for `tracking_uri`, or for MLFLOW_TRACKING_URI if it is empty.

    `create` makes the folder of an SQLite database that is not there yet.

    Raises:
        ConfigError: no URI, no server that answers, or no database where none may be created.
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
    """Return False only for an SQLite database that nobody has written yet."""
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    return not uri.startswith(SQLITE) or Path(uri.removeprefix(SQLITE)).is_file()


@contextmanager
def readable_errors(place: str) -> Iterator[None]:
    """Turn what MLflow raises within the block into a ConfigError naming `place`."""
    try:
        yield
    except MlflowException as error:
        raise ConfigError(f"{place}: MLflow refuses ({error}); is the tracking URI right?") from error


def artifact_location(tracking_uri: str) -> str | None:
    """Return the artifact folder beside an SQLite database; None lets a server choose its own."""
    if not tracking_uri.startswith(SQLITE):
        return None
    return (Path(tracking_uri.removeprefix(SQLITE)).resolve().parent / "mlartifacts").as_uri()


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the id of the experiment `name`, creating it if it is not there."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location(client.tracking_uri))
        except MlflowException as error:  # somebody else created it in between
            if error.error_code != ALREADY_EXISTS:
                raise
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise ConfigError(f"register.experiment: '{name}' is deleted; restore it or choose another name")
    return found.experiment_id


def _check_reachable(uri: str) -> None:
    """Ask for the server's health once: MLflow's own client retries for minutes before it gives up."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_REACH_SECONDS):
            return
    except urllib.error.HTTPError:
        return  # somebody answers; whether it is MLflow and lets us in, the first real call tells
    except (OSError, ValueError) as error:
        raise ConfigError(f"register.tracking_uri: no answer from {uri} ({error}); is it running?") from error

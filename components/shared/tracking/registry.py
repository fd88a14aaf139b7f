"""The registered model in MLflow: its versions and their aliases."""

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from components.shared.errors import ConfigError
from components.shared.tracking.failures import unless_absent

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
RUN_KEY = "run_key"
GATE, PASSED = "gate", "passed"
"""The tag of versions that a pipeline registered, which it does only behind its gate."""


def find_model(client: MlflowClient, name: str) -> RegisteredModel | None:
    """Return the registered model `name`; None if the server says there is none.

    Raises: ConfigError if it answers with something else, MlflowException if it refuses.
    """
    # Not a search, whose results leave out what one may not read.
    found = unless_absent(lambda: client.get_registered_model(name))
    if found and found.name != name:
        raise ConfigError(
            f"{client.tracking_uri}: asked for the model {name}, it answers with {found.name!r}"
        )
    return found


def require_model(client: MlflowClient, name: str) -> RegisteredModel:
    """Return the registered model `name`. Raises ConfigError: there is none, and as `find_model`."""
    if (found := find_model(client, name)) is None:
        raise ConfigError(f"there is no registered model '{name}'; register one first")
    return found


def ensure_model(client: MlflowClient, name: str) -> None:
    """Create the registered model `name` unless it exists."""
    if find_model(client, name) is None:
        client.create_registered_model(name, description="Ranks candidates for a user, with reasons.")


def versions(client: MlflowClient, name: str, run_key: str | None = None) -> list[ModelVersion]:
    """Return the versions of the model `name`, oldest first, of all runs or of one."""
    of_run = f" and tags.{RUN_KEY}='{run_key}'" if run_key else ""
    found = client.search_model_versions(f"name='{name}'{of_run}")
    return sorted(found, key=lambda version: int(version.version))


def aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Return the versions by alias; empty if there is no model `name`."""
    model = find_model(client, name)
    return _aliases(model) if model else {}


def _aliases(model: RegisteredModel) -> dict[str, str]:
    # Versions are integers on SQLite.
    return {alias: str(version) for alias, version in model.aliases.items()}


def resolve(client: MlflowClient, name: str, *versions_or_aliases: str) -> list[str]:
    """Return the versions that numbers or aliases name at one moment. Raises ConfigError."""
    known = {number: number for number in (str(found.version) for found in versions(client, name))}
    named = _aliases(require_model(client, name)) | known
    for wanted in versions_or_aliases:
        if wanted not in named:
            present = ", ".join([*known, *(alias for alias in named if alias not in known)]) or "none"
            raise ConfigError(f"{name} has no version or alias '{wanted}'; it has {present}")
    return [named[wanted] for wanted in versions_or_aliases]


def recorded(client: MlflowClient, run_id: str | None) -> set[str]:
    """Return the names of a run's artifacts, none if it has been deleted."""
    files = unless_absent(lambda: client.list_artifacts(run_id)) if run_id else None
    return {file.path for file in files or ()}


def download(client: MlflowClient, run_id: str, name: str, folder: str) -> Path:
    """Return the copy in `folder` of a run's artifact `name`."""
    from mlflow.artifacts import download_artifacts

    # By the run's id, MLflow says of every failure that the path may be wrong.
    uri = f"{client.get_run(run_id).info.artifact_uri}/{name}"
    return Path(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=client.tracking_uri))

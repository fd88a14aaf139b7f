"""The registered model in MLflow: its versions and their aliases."""

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from components.shared.errors import ConfigError
from components.shared.tracking import failures

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
RUN_KEY = "run_key"
GATE, PASSED = "gate", "passed"
"""The tag of versions that a pipeline registered, which it does only behind its gate."""


def find_model(client: MlflowClient, name: str) -> RegisteredModel | None:
    """Return the registered model `name`; None if the server says there is none.

    Raises: ConfigError if it answers with something else, MlflowException if it refuses.
    """
    try:
        # Not a search, whose results leave out what one may not read.
        found = client.get_registered_model(name)
    except MlflowException as error:
        if failures.is_absence(error):
            return None
        raise
    if found.name != name:
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
    # Versions are integers on SQLite.
    return {alias: str(version) for alias, version in model.aliases.items()} if model else {}


def resolve(client: MlflowClient, name: str, version_or_alias: str) -> str:
    """Return the version that a number or an alias names. Raises ConfigError: there is none."""
    known = [str(found.version) for found in versions(client, name)]
    named = aliases(client, name)
    if version_or_alias in known:
        return version_or_alias
    if version_or_alias in named:
        return named[version_or_alias]
    present = ", ".join([*known, *named]) or "none"
    raise ConfigError(f"{name} has no version '{version_or_alias}'; it has {present}")


def recorded(client: MlflowClient, run_id: str | None) -> set[str]:
    """Return the names of a run's artifacts, none if it has been deleted."""
    try:
        return {file.path for file in client.list_artifacts(run_id)} if run_id else set()
    except MlflowException as error:
        if failures.is_absence(error):
            return set()
        raise

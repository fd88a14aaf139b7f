"""The registered model in MLflow: its versions and their aliases."""

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
RUN_KEY = "run_key"


def find_model(client: MlflowClient, name: str) -> RegisteredModel | None:
    """Return the registered model `name` with its tags and aliases, or None."""
    return next(iter(client.search_registered_models(f"name='{name}'")), None)


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

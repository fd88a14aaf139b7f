"""The registered model in MLflow: its versions and their aliases."""

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from components.shared.tracking.mlflow_client import ALREADY_EXISTS, DOES_NOT_EXIST

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
RUN_KEY = "run_key"


def ensure_model(client: MlflowClient, name: str) -> None:
    """Create the registered model `name` unless it exists."""
    try:
        client.create_registered_model(
            name, description="RecLLM-R1: ranks candidates for a user, with reasons."
        )
    except MlflowException as error:
        if error.error_code != ALREADY_EXISTS:
            raise


def versions(client: MlflowClient, name: str, run_key: str | None = None) -> list[ModelVersion]:
    """Return the versions of the model `name`, oldest first, of all runs or of one."""
    of_run = f" and tags.{RUN_KEY}='{run_key}'" if run_key else ""
    found = client.search_model_versions(f"name='{name}'{of_run}")
    return sorted(found, key=lambda version: int(version.version))


def aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Return the versions by alias; empty if there is no model `name`."""
    try:
        found = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != DOES_NOT_EXIST:
            raise
        return {}
    return {alias: str(version) for alias, version in found.items()}  # an int on SQLite

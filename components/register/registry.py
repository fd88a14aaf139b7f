"""The registered model in MLflow: its versions and their aliases."""

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from components.shared.tracking.mlflow_client import ALREADY_EXISTS, DOES_NOT_EXIST

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
RUN_KEY = "run_key"


def ensure_model(client: MlflowClient, name: str) -> None:
    """Create the registered model `name` unless it is there."""
    try:
        client.create_registered_model(
            name, description="RecLLM-R1: ranks candidates for a user, with reasons."
        )
    except MlflowException as error:
        if error.error_code != ALREADY_EXISTS:
            raise


def versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Return all versions of the model `name`, oldest first; none if there is no such model."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name='{name}'", page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda one: int(one.version))


def version_by_alias(client: MlflowClient, name: str, alias: str) -> str | None:
    """Return the version that `alias` points to, as a string (it is an int on SQLite), or None."""
    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        # A missing model does not exist; a missing alias is an invalid parameter, says MLflow.
        if error.error_code == DOES_NOT_EXIST or "alias" in str(error):
            return None
        raise

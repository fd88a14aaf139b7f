"""Configuration of the model registry and of registered models."""

from dataclasses import field
from typing import Annotated

from pydantic import AfterValidator

from components.shared.config import strict
from components.shared.prompting.settings import ServingConfig


def _check_name(name: str) -> str:
    # MLflow refuses some of these in names and misreads others in URIs.
    if not name or set(name) & set("""/:.%'"\\"""):
        raise ValueError(f"must not be empty or hold any of / : . % quotes or backslashes, got {name!r}")
    return name


Name = Annotated[str, AfterValidator(_check_name)]


@strict
class RegistryConfig:
    """Where models are registered."""

    tracking_uri: str = ""
    """MLflow's tracking URI; empty = MLFLOW_TRACKING_URI, in a local run the runs folder's own database."""
    model_name: Name = "recllm-r1"
    """Name of the registered model."""
    experiment: Name = "recllm-r1"
    """MLflow experiment of the runs."""


@strict
class RegisterConfig(RegistryConfig):
    """Where models are registered, and how they serve."""

    serving: ServingConfig = field(default_factory=ServingConfig)

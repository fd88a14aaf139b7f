"""Configuration of the model registry and of registered models."""

from dataclasses import field
from typing import Annotated

from pydantic import Field, PositiveInt

from components.shared.config import Dtype, strict
from components.shared.prompting.settings import PromptSettings

# MLflow refuses some of these in names and misreads others in URIs.
Name = Annotated[str, Field(pattern=r"""^[^/:.%'"\\]+$""")]


@strict
class ServingConfig(PromptSettings):
    """How the registered model prompts and answers; `mlflow.pyfunc.load_model` can change it."""

    max_new_tokens: PositiveInt = 128
    """Most tokens of an answer."""
    batch_size: PositiveInt = 16
    """Requests answered together."""
    dtype: Dtype = "auto"
    """Compute dtype."""


@strict
class RegistryConfig:
    """Where models are registered."""

    tracking_uri: str = ""
    """MLflow's tracking URI; empty = MLFLOW_TRACKING_URI of the environment."""
    model_name: Name = "recllm-r1"
    """Name of the registered model."""
    experiment: Name = "recllm-r1"
    """MLflow experiment of the runs."""


@strict
class RegisterConfig(RegistryConfig):
    """Where models are registered, and how they serve."""

    serving: ServingConfig = field(default_factory=ServingConfig)

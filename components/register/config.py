"""Configuration of the model registry and of registered models."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import AfterValidator, PositiveInt

from components.shared.config import Dtype, strict
from components.shared.prompting.settings import PromptSettings


def _check_name(name: str) -> str:
    # MLflow refuses some of these in names and misreads others in URIs.
    if not name or set(name) & set("""/:.%'"\\"""):
        raise ValueError(f"must not be empty or hold any of / : . % quotes or backslashes, got {name!r}")
    return name


Name = Annotated[str, AfterValidator(_check_name)]


@strict
class ServingConfig(PromptSettings):
    """How the registered model prompts and answers; `mlflow.pyfunc.load_model` can change it."""

    answer: Literal["reasoned", "scored"] = "reasoned"
    """Answers: "reasoned" (generated, with reasons) or "scored" (likelihoods of the candidates' numbers); a
    model with another `sft.answers` than "generate" ranks by its scores either way."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What generates answers: "vllm" uses every GPU, and only the trainer image has it."""
    max_new_tokens: PositiveInt = 128
    """Maximum tokens per answer."""
    batch_size: PositiveInt = 16
    """Requests that transformers answers together."""
    dtype: Dtype = "auto"
    """Compute dtype."""


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

"""Configuration of the model registry and of how a registered model answers."""

from dataclasses import dataclass, field
from typing import Literal

from components.shared.prompt_settings import PromptSettings


@dataclass(frozen=True, kw_only=True)
class ServingConfig(PromptSettings):
    """How the registered model turns a request into a prompt and answers it.

    A profile fills the prompt's settings from its section `prompts` and `max_new_tokens` from `evaluate`,
    so that the model is asked as it was trained and answers as it was judged.
    """

    max_new_tokens: int = 128
    batch_size: int = 16
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")


@dataclass(frozen=True, kw_only=True)
class RegisterConfig:
    """Where models are registered; an empty `tracking_uri` means the environment's MLFLOW_TRACKING_URI."""

    tracking_uri: str = ""
    model_name: str = "recllm-r1"
    experiment: str = "recllm-r1"
    serving: ServingConfig = field(default_factory=ServingConfig)

    def __post_init__(self) -> None:
        for name in ("model_name", "experiment"):
            value = getattr(self, name)
            if not value or any(character in value for character in "/:.%'\"\\"):
                raise ValueError(f"{name} is {value!r}; it must not be empty or hold any of / : . % ' \" \\")

"""Configuration of the model registry and of how a registered model answers."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """How the registered model turns a request into a prompt.

    The prompt settings mean what they mean in the prompts step and must equal its values, so that the
    model is asked in the words that it was trained on.
    """

    max_history: int = 12
    max_prompt_tokens: int = 384
    title_chars: int = 60
    answer_length: int = 5
    interests: int = 5
    with_profile: bool = True
    with_interests: bool = True
    natural_language: bool = True
    max_new_tokens: int = 128
    batch_size: int = 16
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        for name in ("max_prompt_tokens", "title_chars", "answer_length", "max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")
        for name in ("max_history", "interests"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must not be negative")


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

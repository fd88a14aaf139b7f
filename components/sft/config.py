"""Configuration of supervised fine-tuning."""

from dataclasses import dataclass, field
from typing import Literal

from components.shared.trainable import LoraConfig


@dataclass(frozen=True, kw_only=True)
class SftConfig:
    """How the base model learns to answer.

    Attributes:
        max_examples: size of the seeded sample of training prompts; 0 = all.
        epochs: passes over them; 0 hands the base model on unchanged.
        batch_size: examples an optimiser step; `micro_batch_size` of them at a time.
        learning_rate: peak of a linear warm-up (`warmup_ratio` of the steps) and cosine decay.
        max_length: tokens of prompt and answer; a longer example stops the step, because cutting it
            would cut the answer or the candidates.
        dtype: arithmetic; weights and optimiser stay in float32. "auto" = bfloat16 where it is faster.
        save_steps: optimiser steps between checkpoints; 0 = none.
        train_layers: only that many of the topmost layers learn (the embeddings then stay as they are),
            which spares their share of the backward pass; 0 = everything learns.
        lora: low-rank adapters learn instead of the weights; the model that is handed on has them merged.
    """

    max_examples: int = 0
    epochs: int = 1
    batch_size: int = 8
    micro_batch_size: int = 8
    learning_rate: float = 1.0e-4
    warmup_ratio: float = 0.1
    weight_decay: float = 0.0
    max_length: int = 512
    gradient_checkpointing: bool = False
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    save_steps: int = 20
    train_layers: int = 0
    lora: LoraConfig = field(default_factory=LoraConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse sizes that cannot train."""
        for name in ("batch_size", "micro_batch_size", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("max_examples", "epochs", "save_steps", "train_layers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.batch_size % self.micro_batch_size:
            raise ValueError("batch_size must be a multiple of micro_batch_size")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if not 0 <= self.warmup_ratio <= 1:
            raise ValueError(f"warmup_ratio must lie in [0, 1], got {self.warmup_ratio}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in [0, 2^32), got {self.seed}")

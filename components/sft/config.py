"""Configuration of supervised fine-tuning."""

from dataclasses import field
from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from components.shared.config import Answers, Dtype, Seed, Share, strict
from components.shared.language_model.lora import LoraConfig


@strict
class AdaptationConfig:
    """Learning the titles of train histories as plain text, before the answers."""

    tokens: NonNegativeInt = 0
    """Tokens to read, users in a seeded order; 0 = no adaptation."""
    row_tokens: Annotated[int, Field(ge=2)] = 256
    """Tokens of a packed row, an example of a batch."""
    learning_rate: PositiveFloat = 5.0e-5
    """Peak of a linear warm-up and cosine decay."""


@strict
class SftConfig:
    """Supervised fine-tuning of the base model on answers."""

    answers: Answers = "generate"
    """How the model answers, which GRPO, evaluation and serving take over: "generate" writes reasons and
    numbers; "label_logits" (each candidate's number) and "title_likelihood" (its title as the next of the
    history's) score the candidates in one pass and learn what the retriever's scores lack."""
    fuse_prompts: PositiveInt = 200
    """Prompts with a retrieved label, of train before and of validation after the training, from which the
    weights of model and retriever are learnt; of no effect on generated answers."""
    max_examples: NonNegativeInt = 0
    """Training prompts, a seeded sample; 0 = all."""
    negatives: NonNegativeInt = 0
    """Candidates beside its labels that a training prompt scores, a seeded sample; 0 = all. Of no effect on
    generated answers, which name them all."""
    epochs: NonNegativeInt = 1
    """Passes over the examples; 0 leaves the base model's weights as they are."""
    batch_size: PositiveInt = 8
    """Examples per optimiser step."""
    micro_batch_size: PositiveInt = 8
    """Examples per forward pass of a process; `batch_size` is a multiple of it times the processes."""
    processes: NonNegativeInt = 0
    """Worker processes that share each batch, one per GPU; 0 = one per visible GPU, one without a GPU."""
    fsdp: bool = False
    """Shard weights and optimiser over the processes (FSDP2), for models that one GPU cannot hold."""
    learning_rate: PositiveFloat = 1.0e-4
    """Peak of a linear warm-up and cosine decay."""
    warmup_ratio: Share = 0.1
    """Share of the steps that warm up."""
    weight_decay: NonNegativeFloat = 0.0
    """Of AdamW."""
    max_length: PositiveInt = 1024
    """Tokens of prompt and answer; a longer example stops the step, since cutting would lose candidates."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    dtype: Dtype = "auto"
    """Compute dtype; weights and optimiser stay float32."""
    save_steps: NonNegativeInt = 20
    """Optimiser steps between checkpoints; 0 = none."""
    train_layers: NonNegativeInt = 0
    """Train only the topmost layers, not the embeddings, which shortens the backward pass; 0 = all."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    seed: Seed = 0
    """Seed of the sample, the order of examples and the adapters."""

    def __post_init__(self) -> None:
        self.micro_batches(self.processes or 1)
        if self.fsdp and self.adaptation.tokens:
            raise ValueError("adaptation: not with fsdp; set adaptation.tokens to 0, or fsdp to false")

    def micro_batches(self, processes: int) -> int:
        """Return each process's forward passes per optimiser step.

        Raises: ValueError if that is not a whole number.
        """
        at_once = processes * self.micro_batch_size
        if self.batch_size % at_once:
            times = f" times {processes} processes ({at_once})" if processes > 1 else ""
            raise ValueError(
                f"batch_size ({self.batch_size}) must be a multiple of micro_batch_size"
                f" ({self.micro_batch_size}){times}"
            )
        return self.batch_size // at_once

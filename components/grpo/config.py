"""Configuration of GRPO: the engine, the objective and the reward."""

from dataclasses import dataclass, field
from typing import Any, Literal

from components.shared.trainable import LoraConfig

REWARD_VERSION = "2"
"""Bump it with every change of what a reward term computes; it travels in the lineage of each model."""


@dataclass(frozen=True, kw_only=True)
class RewardWeights:
    """Weights of the composite reward's terms; every term itself lies in [0, 1].

    `business` maps a term's name ("ilad", "novelty", "fresh") or `module:function` of your own to its weight.
    """

    lcs: float = 1.0
    format: float = 0.2
    reasoning: float = 0.1
    repeats: float = 0.5
    outside: float = 0.5
    seen: float = 0.5
    length: float = 0.5
    stray_text: float = 0.2
    business: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HealthBounds:
    """Bounds of the failure signatures in `components/grpo/health.py`.

    Attributes:
        window: steps that a figure is the mean of.
        min_format: share of sampled answers in the right format.
        max_kl: KL(policy || SFT model) in nats a token; above it training stops.
        entropy_factor: how many times the entropy may grow or shrink.
        max_flat_groups: share of groups in which all answers earn the same task reward.
        max_drop: NDCG@10 that validation may lose against the SFT model.
        min_rise: rise of the reward that, beside such a loss, is called reward hacking.
    """

    window: int = 5
    min_format: float = 0.5
    max_kl: float = 0.5
    entropy_factor: float = 5.0
    max_flat_groups: float = 0.9
    max_drop: float = 0.02
    min_rise: float = 0.02

    def __post_init__(self) -> None:
        """Refuse bounds that nothing or everything breaks."""
        if self.window < 1:
            raise ValueError(f"window must be at least 1, got {self.window}")
        for name in ("min_format", "max_flat_groups"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("max_kl", "max_drop", "min_rise"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.entropy_factor <= 1:
            raise ValueError(f"entropy_factor must be above 1, got {self.entropy_factor}")


@dataclass(frozen=True, kw_only=True)
class VerlConfig:
    """Where and how verl runs; its own configuration is reached through `overrides`.

    Attributes:
        gpus_per_node, nodes: GPUs that train and sample; more than one node needs `ray_address`.
        ray_address: a running Ray cluster ("host:port" or "auto") for this training alone; "" starts one on
            this machine.
        tensor_parallel: GPUs that share one copy of the sampling model.
        gpu_memory_utilization: share of a GPU's memory for vLLM, in (0, 1).
        max_tokens_per_gpu: tokens of a micro-batch; lower it when memory runs out.
        attention: of training; flash_attention_2 packs answers without padding.
        overrides: any of verl's keys ("+" before one adds it) with its value; they win over ours.
    """

    gpus_per_node: int = 8
    nodes: int = 1
    ray_address: str = ""
    tensor_parallel: int = 1
    gpu_memory_utilization: float = 0.6
    max_tokens_per_gpu: int = 16384
    attention: Literal["flash_attention_2", "sdpa"] = "flash_attention_2"
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse sizes that no machine has."""
        for name in ("gpus_per_node", "nodes", "tensor_parallel", "max_tokens_per_gpu"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.gpu_memory_utilization < 1:
            raise ValueError(f"gpu_memory_utilization must lie in (0, 1), got {self.gpu_memory_utilization}")
        if self.nodes > 1 and not self.ray_address:
            raise ValueError("nodes is more than 1: name the Ray cluster that they form as ray_address")


@dataclass(frozen=True, kw_only=True)
class GrpoConfig:
    """How the SFT model is improved by reinforcement learning (paper: G = 12, AdamW, lr 1e-4).

    Attributes:
        engine: "local" trains on one device, "verl" on a node of GPUs or several, sampling with vLLM.
        steps: optimiser steps; 0 hands the SFT model on unchanged.
        prompts_per_step: groups an optimiser step; each has `group_size` sampled answers.
        max_prompts: size of the seeded sample of training prompts drawn from, all with a retrieved label;
            0 = all.
        beta: weight of the k3 estimate of KL(policy || SFT model); 0 spares the reference pass.
        clip: PPO's clip range of the probability ratio, or null; without effect while every sample is
            used once.
        eval_every: steps between validations on a seeded sample of `eval_prompts` prompts with a
            retrieved label; the best model is kept.
        eval_batch_size, save_every, train_layers, lora: of the local engine: answers decoded at once, steps
            between checkpoints (0 = none), and as in SftConfig. verl saves when it validates.
    """

    engine: Literal["local", "verl"] = "local"
    steps: int = 12
    prompts_per_step: int = 4
    group_size: int = 6
    max_prompts: int = 0
    learning_rate: float = 1.0e-5
    beta: float = 0.02
    clip: float | None = None
    max_grad_norm: float = 1.0
    temperature: float = 1.0
    max_new_tokens: int = 64
    eval_every: int = 6
    eval_prompts: int = 32
    eval_batch_size: int = 16
    save_every: int = 2
    train_layers: int = 0
    lora: LoraConfig = field(default_factory=LoraConfig)
    gradient_checkpointing: bool = False
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = 0
    reward: RewardWeights = field(default_factory=RewardWeights)
    health: HealthBounds = field(default_factory=HealthBounds)
    verl: VerlConfig = field(default_factory=VerlConfig)

    def __post_init__(self) -> None:
        """Refuse sizes that cannot train."""
        if self.steps < 0:
            raise ValueError(f"steps must be at least 0, got {self.steps}")
        if self.group_size < 2:
            raise ValueError("group_size must be at least 2: the advantage compares answers of one prompt")
        for name in ("prompts_per_step", "max_new_tokens", "eval_every", "eval_prompts", "eval_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("beta", "max_prompts", "save_every", "train_layers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("temperature", "learning_rate", "max_grad_norm", "clip"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in [0, 2^32), got {self.seed}")
        if self.engine == "verl":
            self._check_verl()

    def _check_verl(self) -> None:
        samples, gpus = self.prompts_per_step * self.group_size, self.verl.nodes * self.verl.gpus_per_node
        if samples % gpus:
            raise ValueError(
                f"prompts_per_step times group_size is {samples}, which {gpus} GPUs cannot share evenly"
            )
        if self.dtype == "float32" and self.verl.attention == "flash_attention_2":
            raise ValueError("flash_attention_2 has no float32: set verl.attention to sdpa")
        if not self.steps:
            raise ValueError("steps is 0: set engine to local, which hands the SFT model on")
        if self.train_layers:
            raise ValueError("train_layers is of the local engine: verl trains all layers; set it to 0")
        if self.lora.rank:
            raise ValueError("lora is of the local engine: verl trains all weights; set lora.rank to 0")

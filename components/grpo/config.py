"""Configuration of GRPO: the engine, the objective and the reward."""

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from components.shared.config import Dtype, Seed, Share, strict
from components.shared.language_model.lora import LoraConfig

REWARD_VERSION = "3"
"""Bump it with every change of what a reward term computes; it travels in the lineage of each model."""


@strict
class RewardWeights:
    """Weights of the composite reward's terms; every term itself lies in [0, 1]."""

    lcs: float = 1.0
    """Longest common subsequence of answer and labels, weighted by position and engagement. A train prompt
    has one label: there it equals NDCG."""
    ndcg: float = 0.0
    """NDCG of the ranked candidates over all labels, weighted by engagement."""
    format: float = 0.4
    """One think block, then one answer block of numbers, nothing else."""
    reasoning: float = 0.1
    """Reasoning of a plausible length that names its subject."""
    conditional: bool = False
    """Format and reasoning earn something only beside a task reward (LCS or NDCG) above 0."""
    repeats: float = 0.5
    """Penalty: share of repeated numbers."""
    outside: float = 0.5
    """Penalty: share of numbers outside the list."""
    seen: float = 0.5
    """Penalty: share of ranked candidates that the history holds."""
    length: float = 0.5
    """Penalty: relative error of the count of numbers."""
    business: dict[str, float] = field(default_factory=dict)
    """Business terms by name ("ilad", "novelty", "fresh") or `module:function` of your own."""


@strict
class HealthBounds:
    """Bounds of the failure signatures in `components/grpo/health.py`."""

    window: PositiveInt = 5
    """Steps that a figure is the mean of."""
    min_format: Share = 0.5
    """Share of sampled answers in the right format."""
    max_kl: NonNegativeFloat = 0.5
    """KL(policy || SFT model) in nats per token; above it training stops."""
    entropy_factor: Annotated[float, Field(gt=1)] = 5.0
    """How many times the entropy may grow or shrink."""
    max_flat_groups: Share = 0.9
    """Share of groups in which all answers earn the same task reward."""
    max_drop: NonNegativeFloat = 0.02
    """NDCG@10 that validation may lose against the SFT model."""
    min_rise: NonNegativeFloat = 0.02
    """Rise of the reward that, beside such a loss, counts as reward hacking."""


@strict
class VerlConfig:
    """Where and how verl runs; `overrides` reaches verl's own configuration."""

    gpus_per_node: PositiveInt = 8
    """GPUs per node that train and sample."""
    nodes: PositiveInt = 1
    """More than one node needs `ray_address`."""
    ray_address: str = ""
    """Running Ray cluster ("host:port" or "auto") for this training alone; "" starts one here."""
    tensor_parallel: PositiveInt = 1
    """GPUs that share one copy of the sampling model."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Share of a GPU's memory for vLLM."""
    max_tokens_per_gpu: PositiveInt = 16384
    """Tokens of a micro-batch; lower it when memory runs out."""
    attention: Literal["flash_attention_2", "sdpa"] = "sdpa"
    """Attention of training: PyTorch's, or of the package flash-attn, which packs answers without padding."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Any of verl's keys ("+" before one adds it) with its value; they win over ours."""

    def __post_init__(self) -> None:
        if self.nodes > 1 and not self.ray_address:
            raise ValueError("nodes is more than 1: name the Ray cluster that they form as ray_address")


@strict
class GrpoConfig:
    """How reinforcement learning improves the SFT model (paper: G = 12, AdamW, lr 1e-4)."""

    engine: Literal["local", "verl"] = "local"
    """Engine: "local" trains on one device, "verl" on one or more nodes of GPUs, sampling with vLLM."""
    objective: Literal["grpo", "sft"] = "grpo"
    """Local engine: what the steps minimise; "sft" continues SFT on the same prompts, GRPO's control."""
    steps: NonNegativeInt = 12
    """Optimiser steps; 0 returns the SFT model unchanged."""
    prompts_per_step: PositiveInt = 4
    """Groups per optimiser step."""
    group_size: int = 6
    """Sampled answers per prompt, at least 2: the advantage compares answers of one prompt."""
    max_prompts: NonNegativeInt = 0
    """Training prompts with a retrieved label, a seeded sample; 0 = all."""
    learning_rate: PositiveFloat = 1.0e-5
    """Of AdamW, constant."""
    beta: NonNegativeFloat = 0.02
    """Weight of the k3 estimate of KL(policy || SFT model); 0 skips the reference pass."""
    clip: PositiveFloat | None = None
    """PPO's clip range of the probability ratio; without effect while every sample is used once."""
    clip_high: PositiveFloat | None = None
    """Upper clip range where it is not `clip` (DAPO's clip-higher); needs `clip`."""
    scale_advantages: bool = True
    """Divide by the group's standard deviation; false: Dr. GRPO."""
    token_mean: bool = False
    """Average over all tokens of a group (DAPO), not over each answer's first (GRPO)."""
    refill: bool = False
    """Local engine: draw other prompts, twice at most, in place of groups of equal reward (DAPO)."""
    credit_to_label: bool = False
    """Local engine: only the ranks down to a ranking's last label share in its reward, for the others cannot
    change LCS and NDCG: their gradient with less noise. The penalty on seen items counts on these ranks
    alone. Of no effect on generated answers."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradient clipping."""
    temperature: PositiveFloat = 1.0
    """Of sampling."""
    max_new_tokens: PositiveInt = 64
    """Tokens of an answer at most."""
    eval_every: PositiveInt = 6
    """Steps between validations; the best step by NDCG@10, with business terms by the reward, may be kept."""
    eval_prompts: Annotated[int, Field(ge=2)] = 32
    """Validation prompts with a retrieved label, a seeded sample."""
    eval_batch_size: PositiveInt = 16
    """Local engine: validation prompts decoded together."""
    save_every: NonNegativeInt = 2
    """Local engine: steps between checkpoints; 0 = none. verl saves when it validates."""
    train_layers: NonNegativeInt = 0
    """Local engine: train only the topmost layers; 0 = all."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    dtype: Dtype = "auto"
    """Compute dtype; weights and optimiser stay float32."""
    seed: Seed = 0
    """Seed of samples, orders and adapters."""
    reward: RewardWeights = field(default_factory=RewardWeights)
    health: HealthBounds = field(default_factory=HealthBounds)
    verl: VerlConfig = field(default_factory=VerlConfig)

    def __post_init__(self) -> None:
        if self.clip_high and not self.clip:
            raise ValueError("clip_high needs clip, the lower range")
        if self.credit_to_label and any(self.reward.business.values()):
            raise ValueError("credit_to_label: business terms look at all ranks; set it to false")
        if self.group_size < 2:
            raise ValueError("group_size must be at least 2: the advantage compares answers of one prompt")
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
            raise ValueError("steps is 0: set engine to local, which returns the SFT model")
        if self.train_layers:
            raise ValueError("train_layers is of the local engine: verl trains all layers; set it to 0")
        if self.objective != "grpo":
            raise ValueError("objective sft is of the local engine: set engine to local")
        if self.credit_to_label:
            raise ValueError("credit_to_label is of the local engine: verl generates; set it to false")
        if self.refill:
            raise ValueError("refill is of the local engine: verl keeps all groups; set it to false")
        if self.lora.rank:
            raise ValueError("lora is of the local engine: verl trains all weights; set lora.rank to 0")

"""The local engine: GRPO on one device, with transformers and nothing else.

Simplified from verl: every sample is used for one update, so the old policy is the current one and
needs no pass of its own; the reference model is read only when beta > 0.
"""

import copy
import functools
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from components.grpo import health
from components.grpo.config import GrpoConfig
from components.grpo.losses import Reference, grpo_loss, supervised_loss
from components.grpo.progress import Progress, best_checkpoint, log
from components.grpo.rewards import Term, business_terms
from components.grpo.rollout import (
    Group,
    RankedGroup,
    check_lengths,
    micro_batches,
    rollout_figures,
    sample_groups,
    validate,
)
from components.shared.artifacts import training_state
from components.shared.artifacts.outputs import atomic_folder
from components.shared.language_model import lora
from components.shared.language_model.checks import check_finite
from components.shared.language_model.dtype import torch_dtype
from components.shared.language_model.load import LanguageModel, best_device, load
from components.shared.prompting.table import PromptRow
from components.shared.tracking.tracker import NO_TRACKING, Tracker

REFILLS = 2
"""Further draws of a step's prompts in place of groups of equal reward."""


@dataclass(kw_only=True)
class State(Progress):
    """The progress with what training changes."""

    policy: Any
    optimizer: torch.optim.Optimizer


def train(
    config: GrpoConfig,
    sft_model: Path,
    rows: Sequence[PromptRow],
    valid: Sequence[PromptRow],
    checkpoint_dir: Path,
    tracker: Tracker = NO_TRACKING,
) -> State:
    """Train the policy from `sft_model` on `rows`, or from `checkpoint_dir`/latest.pt; return the progress.

    The best model lies in `best_checkpoint(checkpoint_dir, best_step)` if a step was better than the SFT
    model. A training that collapses is stopped early.
    """
    device = best_device()
    lm = load(sft_model, "float32", device)
    switch_dropout_off(lm.model)
    tokenizer = lm.tokenizer
    check_lengths(config, lm, [*rows, *valid])
    torch.manual_seed(config.seed)  # adapters are drawn from it
    policy = lora.set_trainable(lm.model, config.train_layers, config.lora)
    if config.gradient_checkpointing:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
    dtype = torch_dtype(config.dtype)
    reference = Reference(policy, dtype) if config.beta and config.objective == "grpo" else None
    sampler = _Sampler(policy, tokenizer, dtype)
    trainable = {name: weights for name, weights in policy.named_parameters() if weights.requires_grad}
    optimizer = torch.optim.AdamW(trainable.values(), lr=config.learning_rate, weight_decay=0.0)
    latest = checkpoint_dir / "latest.pt"
    state = State(policy=policy, optimizer=optimizer)
    weights = {name: weight.detach() for name, weight in trainable.items()}
    if progress := training_state.resume(latest, weights, optimizer, state.state_dict()):
        vars(state).update(progress)
        log.info("resumed after step %d", state.step)
    business = business_terms(config.reward)
    if not state.validations:
        _validate(state, sampler, valid, config, tracker)
        state.log_step(config.steps)
    resumable_best = state.best_step  # the best step that the latest checkpoint names
    while state.step < config.steps:
        if reason := health.collapse(config.health, state.history):
            log.warning("stopped after step %d: %s", state.step, reason)
            break
        started = time.monotonic()
        generator = torch.Generator(device=device).manual_seed(config.seed * 1_000_003 + state.step)
        groups = _groups(sampler.refreshed(), rows, config, business, generator, state.step)
        figures = _update(state, reference, groups, config, dtype)
        figures["seconds"] = time.monotonic() - started
        state.add_step(figures)
        tracker.log(state.step, figures)
        if state.step % config.eval_every == 0 or state.step == config.steps:
            _validate(state, sampler, valid, config, tracker)
            if state.best_step == state.step:
                prune_best_checkpoints(checkpoint_dir, resumable_best)
                with atomic_folder(best_checkpoint(checkpoint_dir, state.step)) as folder:
                    lora.merge_adapters(policy).save_pretrained(folder)
                    tokenizer.save_pretrained(folder)
        state.log_step(config.steps)
        if config.save_every and state.step % config.save_every == 0:
            training_state.save(latest, weights, optimizer, state.state_dict())
            resumable_best = state.best_step
            prune_best_checkpoints(checkpoint_dir, resumable_best)
    return state


def switch_dropout_off(model: torch.nn.Module) -> None:
    """Set all rates to 0."""
    # Answers are sampled without it, and a resumed training would draw other masks.
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout"):  # rates that models hand to functions
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _validate(
    state: State, sampler: "_Sampler", valid: Sequence[PromptRow], config: GrpoConfig, tracker: Tracker
) -> None:
    state.add_validation(*validate(sampler.refreshed(), valid, config))
    tracker.log(state.step, state.validations[state.step])


def prune_best_checkpoints(checkpoint_dir: Path, keep_step: int) -> None:
    """Remove all best models but that of `keep_step`, which a resumed run needs."""
    for folder in checkpoint_dir.glob("best-*"):
        if folder != best_checkpoint(checkpoint_dir, keep_step):
            shutil.rmtree(folder)


class _Sampler:
    """The policy for sampling: in the compute dtype, adapters merged; a copy where that differs."""

    def __init__(self, policy: Any, tokenizer: Any, dtype: torch.dtype) -> None:
        self.policy = policy
        merged = lora.merge_adapters(policy)
        if dtype != torch.float32:
            merged = (copy.deepcopy(merged) if merged is policy else merged).to(dtype)
        self.copy = merged
        self.lm = LanguageModel(self.copy, tokenizer)

    def refreshed(self) -> LanguageModel:
        """Return the model with the policy's present weights."""
        if self.copy is not self.policy:
            with torch.no_grad():
                pairs = zip(self.copy.parameters(), lora.merged_parameters(self.policy), strict=True)
                for copied, current in pairs:
                    copied.copy_(current)
        self.copy.eval()
        return self.lm


def _groups(
    lm: LanguageModel,
    rows: Sequence[PromptRow],
    config: GrpoConfig,
    business: dict[str, Term],
    generator: torch.Generator,
    step: int,
) -> Sequence[Group | RankedGroup]:
    """Return the groups of `step`; with `refill` those whose rewards differ, if there are any."""
    kept: list[Group | RankedGroup] = []
    for attempt in range(REFILLS + 1):
        # What replaces a group comes from beyond the prompts that the steps draw by themselves.
        batch = _batch(rows, config, step + attempt * config.steps)
        drawn = sample_groups(lm, batch, config, business, generator)
        if not config.refill:
            return drawn
        kept += [group for group in drawn if len({scores["reward"] for scores in group.scores}) > 1]
        if len(kept) >= config.prompts_per_step:
            break
    return kept[: config.prompts_per_step] or drawn


def _batch(rows: Sequence[PromptRow], config: GrpoConfig, step: int) -> list[PromptRow]:
    """Return the prompts of `step`: every epoch is a fresh shuffle, known without any state."""
    drawn = range(step * config.prompts_per_step, (step + 1) * config.prompts_per_step)
    return [rows[_epoch_order(len(rows), config.seed, n // len(rows))[n % len(rows)]] for n in drawn]


@functools.lru_cache(maxsize=2)  # a step may end one epoch and begin the next
def _epoch_order(size: int, seed: int, epoch: int) -> list[int]:
    order = list(range(size))
    random.Random(f"{seed}-{epoch}").shuffle(order)
    return order


def _update(
    state: State,
    reference: Reference | None,
    groups: Sequence[Group | RankedGroup],
    config: GrpoConfig,
    dtype: torch.dtype,
) -> dict[str, float]:
    """Take one optimiser step on `groups` and return its figures."""
    policy = state.policy
    policy.train()
    totals: dict[str, float] = {}
    for batch in micro_batches(groups, policy.device):
        if config.objective == "sft":
            loss, figures = supervised_loss(policy, batch, dtype)
        else:
            loss, figures = grpo_loss(policy, reference, batch, config, dtype)
        share = len(batch) / len(groups)
        (loss * share).backward()
        for name, value in figures.items():
            totals[name] = totals.get(name, 0.0) + value * share
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm).item()
    check_finite(f"at step {state.step + 1}", "grpo", config.learning_rate, totals["loss"], norm)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    lengths = [length for group in groups for length in group.lengths]
    rollouts = rollout_figures([group.scores for group in groups])
    return {**totals, "grad_norm": norm, **rollouts, "answer_tokens": sum(lengths) / len(lengths)}

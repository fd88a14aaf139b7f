"""The loss of groups that share a forward pass: GRPO's, and as its control SFT's on the same prompts."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from components.grpo.config import GrpoConfig
from components.grpo.objective import group_advantages, k3, policy_loss, sequence_mean, token_mean
from components.grpo.rollout import Group, RankedGroup, log_probs, target_log_probs
from components.shared.language_model import lora
from components.shared.language_model.dtype import autocast
from components.shared.language_model.packing import answer_mask


class Reference:
    """The initial policy for the KL term: a frozen copy, or the policy without adapters."""

    def __init__(self, policy: Any, dtype: torch.dtype) -> None:
        self.policy, self.dtype = policy, dtype
        self.copy = None
        if not lora.has_adapters(policy):
            self.copy = copy.deepcopy(policy).to(dtype).eval().requires_grad_(False)

    @torch.no_grad()
    def log_probs(self, groups: Sequence[Group | RankedGroup], temperature: float) -> list[torch.Tensor]:
        """Return the log-probabilities of each group's answers, (answers, longest)."""
        if self.copy is not None:
            found = log_probs(self.copy, groups, temperature)
        else:
            with self.policy.disable_adapter(), autocast(self.policy.device, self.dtype):
                found = log_probs(self.policy, groups, temperature)
        return [of_tokens for of_tokens, _ in found]


def grpo_loss(
    policy: Any,
    reference: Reference | None,
    groups: Sequence[Group | RankedGroup],
    config: GrpoConfig,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the mean loss of groups that share a forward pass, and its figures."""
    device = policy.device
    rewards = [[scores["reward"] for scores in group.scores] for group in groups]
    advantages = group_advantages(torch.tensor(rewards, device=device), config.scale_advantages)
    aggregate = token_mean if config.token_mean else sequence_mean
    bounds = (config.clip, config.clip_high or config.clip)
    with autocast(device, dtype):
        found = log_probs(policy, groups, config.temperature)
    masks = [answer_mask(group.lengths, device) for group in groups]
    credits = [
        group.credits()
        if config.credit_to_label and isinstance(group, RankedGroup)
        else torch.ones_like(mask)
        for group, mask in zip(groups, masks, strict=True)
    ]
    loss = _mean(
        policy_loss(own, own.detach(), advantage[:, None] * credit, mask, bounds, aggregate)
        for (own, _), advantage, credit, mask in zip(found, advantages, credits, masks, strict=True)
    )
    figures = {"kl": 0.0}
    if reference is not None:
        theirs = reference.log_probs(groups, config.temperature)
        kl = _mean(
            aggregate(k3(own, other), mask)
            for (own, _), other, mask in zip(found, theirs, masks, strict=True)
        )
        loss = loss + config.beta * kl
        figures["kl"] = kl.item()
    entropy = _mean(sequence_mean(of, mask) for (_, of), mask in zip(found, masks, strict=True))
    return loss, {**figures, "loss": loss.item(), "entropy": entropy.item()}


def supervised_loss(
    policy: Any, groups: Sequence[Group | RankedGroup], dtype: torch.dtype
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the mean negative log-likelihood of the groups' targets, and its figure."""
    with autocast(policy.device, dtype):
        loss = -_mean(target_log_probs(policy, groups))
    return loss, {"loss": loss.item()}


def _mean(values: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(values)).mean()

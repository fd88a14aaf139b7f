"""Our objective beside verl's own functions, under the configuration that we hand to verl."""

import dataclasses

import numpy as np
import pytest
import torch

from components.grpo.objective import group_advantages, k3, policy_loss, sequence_mean
from components.grpo.verl.reward import RESOLUTION

pytestmark = pytest.mark.verl

GROUPS, SIZE, LONGEST = 3, 4, 9
KINDS = ("ragged", "length one", "truncated", "no variance")


@dataclasses.dataclass(frozen=True)
class Batch:
    """Answers of three groups: (12, 9) log-probabilities under three models, a mask, a reward each."""

    log_probs: torch.Tensor
    old: torch.Tensor
    reference: torch.Tensor
    mask: torch.Tensor
    rewards: torch.Tensor


def batch(kind: str, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    answers = GROUPS * SIZE
    longest = 1 if kind == "length one" else LONGEST
    lengths = torch.randint(1, longest + 1, (answers, 1), generator=generator)
    if kind == "truncated":
        lengths[::2] = longest
    rewards = torch.rand(GROUPS, SIZE, generator=generator) * 3 - 1
    rewards = (rewards * RESOLUTION).round() / RESOLUTION  # as verl gets them from us
    if kind == "no variance":
        rewards[1] = rewards[1, 0]
    log_probs, old, reference = (-4 * torch.rand(answers, longest, generator=generator) for _ in range(3))
    return Batch(log_probs, old, reference, (torch.arange(longest) < lengths).float(), rewards)


def batches(test):
    return pytest.mark.parametrize("kind", KINDS)(pytest.mark.parametrize("seed", range(10))(test))


def close(mine: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


@batches
def test_advantages(kind: str, seed: int) -> None:
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    b = batch(kind, seed)
    token_rewards = torch.zeros_like(b.mask)
    token_rewards[:, 0] = b.rewards.flatten()
    groups = np.repeat(np.arange(GROUPS), SIZE)
    theirs, _ = compute_grpo_outcome_advantage(token_rewards, b.mask, groups)
    mine = group_advantages(b.rewards).flatten()[:, None] * b.mask
    close(mine, theirs)
    if kind == "no variance":
        assert not mine[SIZE : 2 * SIZE].any()
        assert not theirs[SIZE : 2 * SIZE].any()


@batches
@pytest.mark.parametrize("clip", [None, 0.2])
def test_policy_loss_and_its_gradient(kind: str, seed: int, clip: float | None, actor_config) -> None:
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla

    b = batch(kind, seed)
    advantages = group_advantages(b.rewards).flatten()
    config = actor_config(clip=clip)
    found = []
    for loss in (
        lambda x: policy_loss(x, b.old, advantages[:, None], b.mask, (clip, clip)),
        lambda x: compute_policy_loss_vanilla(
            b.old, x, advantages[:, None].expand_as(x), b.mask, config.loss_agg_mode, config
        )[0],
    ):
        log_probs = b.log_probs.clone().requires_grad_()
        value = loss(log_probs)
        found.append((value.detach(), torch.autograd.grad(value, log_probs)[0]))
    (mine, my_gradient), (theirs, their_gradient) = found
    close(mine, theirs)
    close(my_gradient, their_gradient)


@batches
def test_kl(kind: str, seed: int, actor_config) -> None:
    from verl.trainer.ppo.core_algos import agg_loss, kl_penalty

    b, config = batch(kind, seed), actor_config()
    theirs = kl_penalty(b.log_probs, b.reference, config.kl_loss_type)
    close(k3(b.log_probs, b.reference), theirs)
    close(sequence_mean(theirs, b.mask), agg_loss(theirs, b.mask, config.loss_agg_mode))

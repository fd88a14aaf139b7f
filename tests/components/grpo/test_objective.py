"""The objective against a float64 computation written out in plain Python."""

import math

import pytest
import torch

from components.grpo.objective import group_advantages, k3, policy_loss, sequence_mean, token_mean


def ragged(seed: int) -> tuple[list[int], torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (6,), generator=generator).tolist()
    log_probs, old = (-3 * torch.rand(6, max(lengths), generator=generator) for _ in range(2))
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).float()
    return lengths, log_probs, old, mask


@pytest.mark.parametrize("rewards", [[1.0, 0.0, 0.5], [0.3, 0.3, 0.3], [2.0, -1.0, 7.5]])
def test_advantages(rewards: list[float]) -> None:
    mean = sum(rewards) / 3
    deviation = math.sqrt(sum((r - mean) ** 2 for r in rewards) / 2)
    expected = [(r - mean) / (deviation + 1e-6) for r in rewards]
    assert group_advantages(torch.tensor([rewards]))[0].tolist() == pytest.approx(expected, abs=1e-6)
    centred = [r - mean for r in rewards]
    assert group_advantages(torch.tensor([rewards]), False)[0].tolist() == pytest.approx(centred, abs=1e-6)


@pytest.mark.parametrize("aggregate", [sequence_mean, token_mean])
@pytest.mark.parametrize("clip", [None, (0.2, 0.2), (0.2, 0.5)])
@pytest.mark.parametrize("seed", range(5))
def test_policy_loss_on_ragged_groups(seed: int, clip: tuple[float, float] | None, aggregate) -> None:
    lengths, log_probs, old, mask = ragged(seed)
    advantages = torch.linspace(-1.5, 2.0, 6)
    per_answer = []
    for i, length in enumerate(lengths):
        gains = []
        for t in range(length):
            ratio, a = math.exp(log_probs[i, t].item() - old[i, t].item()), advantages[i].item()
            clipped = min(max(ratio, 1 - clip[0]), 1 + clip[1]) if clip else ratio
            gains.append(min(ratio * a, clipped * a))
        per_answer.append(sum(gains) / (length if aggregate is sequence_mean else 1))
    expected = -sum(per_answer) / (6 if aggregate is sequence_mean else sum(lengths))
    found = policy_loss(log_probs, old, advantages[:, None], mask, clip or (None, None), aggregate)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_k3_is_zero_at_equality_and_never_negative() -> None:
    _, log_probs, reference, _ = ragged(0)
    assert k3(log_probs, log_probs).abs().max() == 0
    estimate = k3(log_probs, reference)
    assert estimate.min() >= 0
    difference = (reference - log_probs)[0, 0].item()
    assert estimate[0, 0].item() == pytest.approx(math.exp(difference) - difference - 1, abs=1e-6)
    assert torch.isfinite(k3(torch.tensor([-1000.0]), torch.tensor([0.0]))).all()


def test_the_gradient_of_the_first_update_is_advantage_times_score() -> None:
    _, log_probs, _, mask = ragged(3)
    log_probs.requires_grad_()
    advantages = torch.arange(6.0)
    policy_loss(log_probs, log_probs.detach(), advantages[:, None], mask).backward()
    expected = -advantages[:, None] * mask / mask.sum(1, keepdim=True) / 6
    torch.testing.assert_close(log_probs.grad, expected)


def test_sequence_mean_weights_answers_equally() -> None:
    values, mask = torch.tensor([[1.0, 9.0], [2.0, 4.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert sequence_mean(values, mask).item() == pytest.approx((1 + 3) / 2)

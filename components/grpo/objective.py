"""The objective of GRPO as in the paper (equation 5; Shao et al. 2024, equation 3), on padded tensors.

Shapes: B answers, T tokens; masks are 1 on an answer's tokens. verl computes the same as
`adv_estimator=grpo`, `kl_loss_type=low_var_kl`, `loss_agg_mode=seq-mean-token-mean`.
"""

from collections.abc import Callable

import torch


def group_advantages(rewards: torch.Tensor, scale: bool = True, epsilon: float = 1.0e-6) -> torch.Tensor:
    """Return rewards (groups, group_size) less their group's mean, over its standard deviation + epsilon.

    Without `scale` they are not divided (Dr. GRPO, Liu et al. 2025). The standard deviation is the unbiased
    one. A group of equal rewards gives zeros: in float64, because the rounding of a float32 mean, divided by
    epsilon, would not.
    """
    exact = rewards.double()
    centred = exact - exact.mean(1, keepdim=True)
    if not scale:
        return centred.to(rewards.dtype)
    return (centred / (exact.std(1, keepdim=True) + epsilon)).to(rewards.dtype)


def k3(log_probs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return the k3 estimate of KL(policy || reference) for each token (Schulman 2020); never negative.

    The log-ratio is clamped to ±20 and the estimate to ±10 against overflow, as in verl.
    """
    log_ratio = (reference - log_probs).clamp(-20, 20)
    return (log_ratio.exp() - log_ratio - 1).clamp(-10, 10)


def sequence_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over answers of their token means; both inputs are (B, T)."""
    return ((values * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


def token_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over all tokens of (B, T) inputs (DAPO, Yu et al. 2025)."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def policy_loss(
    log_probs: torch.Tensor,
    old_log_probs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    clip: tuple[float | None, float | None] = (None, None),
    aggregate: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = sequence_mean,
) -> torch.Tensor:
    """Return minus the surrogate: ratio x advantage of each token, averaged by `aggregate`.

    log_probs, old_log_probs, mask: (B, T); advantages: (B, T) or (B, 1). With `clip`, how far the
    ratio may lie below and above 1, the pessimistic PPO bound; a higher upper bound is DAPO's.
    """
    ratio = (log_probs - old_log_probs).clamp(-20, 20).exp()
    gain = ratio * advantages
    below, above = clip
    if below is not None and above is not None:
        gain = torch.minimum(gain, ratio.clamp(1 - below, 1 + above) * advantages)
    return -aggregate(gain, mask)

"""Rankings drawn from candidates' logits without generating (Plackett 1975, Luce 1959).

Each rank is a softmax over the candidates that are left, so one forward pass serves all samples of a group,
and a rank has the part in the objective that a token has in a generated answer.
"""

import torch


def sample_rankings(
    logits: torch.Tensor, samples: int, length: int, generator: torch.Generator
) -> torch.Tensor:
    """Return `samples` rankings of `length` candidates by index, (samples, length), best first.

    Logits (candidates,) plus Gumbel noise, sorted, are such a draw (Yellott 1977).
    """
    uniform = torch.rand(samples, len(logits), generator=generator, device=logits.device, dtype=torch.float64)
    keys = logits.double() - (-uniform.clamp_min(1e-300).log()).log()
    return keys.argsort(1, descending=True)[:, :length]


def credited_ranks(rankings: torch.Tensor, is_label: torch.Tensor) -> torch.Tensor:
    """Return whether each rank can change where labels stand, (samples, length).

    What follows the last label cannot, unless a label is missing that has a place: every rank kept it out.
    `is_label`: (candidates,).
    """
    labels = is_label[rankings]
    expected = is_label.sum().clamp(1, rankings.shape[1])
    is_missing = labels.sum(1, keepdim=True) < expected
    return (labels.flip(1).cumsum(1).flip(1) > 0) | is_missing


def ranking_log_probs(logits: torch.Tensor, rankings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each rank's log-probability and entropy, given those before it, both (samples, length).

    The entropy is detached.
    """
    chosen = torch.nn.functional.one_hot(rankings, len(logits))
    taken = (chosen.cumsum(1) - chosen).bool()
    log_probs = logits.expand(taken.shape).masked_fill(taken, -torch.inf).log_softmax(-1)
    with torch.no_grad():
        entropy = -(log_probs.exp() * log_probs.masked_fill(taken, 0.0)).sum(-1)
    return log_probs.gather(2, rankings[..., None]).squeeze(2), entropy

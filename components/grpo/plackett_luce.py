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
    """Return whether a label stands at each rank or below it, (samples, length).

    What follows the last label cannot change a reward that only looks at where labels stand. `is_label`:
    (candidates,). All ranks of a ranking without a label count: all of them kept it out.
    """
    labels = is_label[rankings]
    return (labels.flip(1).cumsum(1).flip(1) > 0) | ~labels.any(1, keepdim=True)


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

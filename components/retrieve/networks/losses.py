"""Losses over a large catalogue: full softmax in chunks, sampled softmax, binary cross-entropy."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 256
"""Positions per block of the full softmax: only its logits (chunk x items x 4 bytes) are held at a time."""
SMALLEST = -60.0
"""Floor of logits below the highest: e^-60 changes no sum, but denormal numbers (from e^-88) are slow."""


class _FullSoftmax(torch.autograd.Function):
    """Mean cross-entropy of `hidden` [positions, dim] over all of `table` [items, dim].

    Its gradients are computed in the forward pass, chunk by chunk.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        loss = hidden.new_zeros(())
        grad_hidden, grad_table = torch.empty_like(hidden), torch.zeros_like(table)
        if torch.get_float32_matmul_precision() == "medium":
            loss = _rounded(hidden, table, targets, grad_hidden, grad_table)
            return _FullSoftmax.keep(ctx, grad_hidden, grad_table, loss)
        # Products with `out=` stay in float32 under a GPU's autocast, as exponents need. One block of memory
        # for all chunks: fresh pages cost more than the arithmetic on them.
        block = hidden.new_empty(min(CHUNK, len(hidden)), len(table))
        for start in range(0, len(hidden), CHUNK):
            h, target = hidden[start : start + CHUNK], targets[start : start + CHUNK]
            weights = torch.mm(h, table.T, out=block[: len(h)])
            loss -= weights.gather(1, target[:, None]).sum()
            top = weights.amax(1, keepdim=True)
            weights.sub_(top).clamp_(min=SMALLEST).exp_()
            total = weights.sum(1, keepdim=True)
            loss += (total.log() + top).sum()
            weights.div_(total)
            weights[torch.arange(len(target), device=target.device), target] -= 1
            torch.mm(weights, table, out=grad_hidden[start : start + CHUNK])
            grad_table.addmm_(weights.T, h)
        return _FullSoftmax.keep(ctx, grad_hidden, grad_table, loss)

    @staticmethod
    def keep(ctx, grad_hidden: Tensor, grad_table: Tensor, loss: Tensor) -> Tensor:
        """Save the gradients of the sum of losses `loss`; return their mean."""
        ctx.save_for_backward(grad_hidden, grad_table)
        ctx.positions = len(grad_hidden)
        return loss / len(grad_hidden)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_hidden, grad_table = ctx.saved_tensors
        scale = grad / ctx.positions
        return grad_hidden * scale, grad_table * scale, None


def _rounded(
    hidden: Tensor, table: Tensor, targets: Tensor, grad_hidden: Tensor, grad_table: Tensor
) -> Tensor:
    """Fill the gradients by products of bfloat16 factors; return the sum of the losses.

    Probabilities are rounded too: one pass over half the memory costs a third of float32's time on a CPU
    that multiplies bfloat16, and gradients differ by some 0.2 %.
    """
    loss, factors = hidden.new_zeros(()), table.bfloat16()
    for start in range(0, len(hidden), CHUNK):
        rows = slice(start, start + CHUNK)
        h, target = hidden[rows].bfloat16(), targets[rows, None]
        weights = torch.softmax(h @ factors.T, 1)
        likely = weights.gather(1, target)
        loss -= likely.float().clamp(min=math.exp(SMALLEST)).log().sum()
        weights.scatter_(1, target, likely - 1)
        grad_hidden[rows] = weights @ factors
        grad_table += weights.T @ h
    return loss


def full_softmax(hidden: Tensor, table: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy of `hidden` [positions, dim] over all of `table` [items, dim].

    All items get the share `smoothing` of each target's weight alike (Szegedy et al. 2016, section 7).
    """
    loss = _FullSoftmax.apply(hidden, table, targets)
    if not smoothing:
        return loss
    # The logits' mean over the catalogue is the product with the mean item.
    lead = (hidden * F.embedding(targets, table)).sum(1) - hidden @ table.mean(0)
    return loss + smoothing * lead.mean()


def sampled_softmax(
    hidden: Tensor, table: Tensor, targets: Tensor, negatives: Tensor, num_items: int
) -> Tensor:
    """Return the mean cross-entropy against `negatives` [S], uniform items shared by the batch.

    Targets and negatives are rows of `table`, which holds those of the `num_items` that are used.
    A negative equal to the position's target is left out, the others' logits get + log(items / S), so the
    partition function is that of the full softmax in expectation (Bengio & Senécal 2008).
    """
    positive = (hidden * F.embedding(targets, table)).sum(1, keepdim=True)
    logits = hidden @ F.embedding(negatives, table).T + math.log(num_items / len(negatives))
    logits = logits.masked_fill(negatives[None, :] == targets[:, None], -torch.inf)
    return F.cross_entropy(torch.cat([positive, logits], 1), torch.zeros_like(targets))


def binary_cross_entropy(hidden: Tensor, table: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of one target and one negative per position."""
    positive = (hidden * F.embedding(targets, table)).sum(1)
    negative = (hidden * F.embedding(negatives, table)).sum(1)
    return F.softplus(-positive).mean() + F.softplus(negative).mean()

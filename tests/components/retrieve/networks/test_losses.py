import math

import pytest
import torch
import torch.nn.functional as F

from components.retrieve.networks import losses
from components.shared.language_model.dtype import bfloat16_matmul


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    table = torch.randn(11, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    return hidden, table, torch.tensor([0, 10, 3, 3, 7, 1, 0])


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_full_softmax_equals_cross_entropy_with_its_gradients(inputs, chunk, smoothing, monkeypatch) -> None:
    monkeypatch.setattr(losses, "CHUNK", chunk)
    hidden, table, targets = inputs
    ours = losses.full_softmax(hidden, table, targets, smoothing)
    plain = F.cross_entropy(hidden @ table.T, targets, label_smoothing=smoothing)
    assert ours.item() == pytest.approx(plain.item())
    mine = torch.autograd.grad(2 * ours, (hidden, table))
    theirs = torch.autograd.grad(2 * plain, (hidden, table))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_products_rounded_to_bfloat16_change_the_gradients_little() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, table = (torch.randn(n, 32, generator=generator, requires_grad=True) for n in (700, 500))
    targets = torch.randint(500, (700,), generator=generator)
    plain = losses.full_softmax(hidden, table, targets)
    with bfloat16_matmul(enabled=True):
        rounded = losses.full_softmax(hidden, table, targets)
    assert rounded.item() == pytest.approx(plain.item(), rel=2e-3)
    pairs = zip(*(torch.autograd.grad(loss, (hidden, table)) for loss in (rounded, plain)), strict=True)
    for one, other in pairs:
        assert (one - other).norm() < 0.01 * other.norm()


def test_full_softmax_stands_large_logits(inputs) -> None:
    hidden, table, targets = inputs
    plain = F.cross_entropy(1e3 * hidden @ table.T, targets)
    assert losses.full_softmax(1e3 * hidden, table, targets).item() == pytest.approx(plain.item())


def test_sampling_everything_equals_the_full_softmax(inputs) -> None:
    hidden, table, targets = inputs
    sampled = losses.sampled_softmax(hidden, table, targets, torch.randperm(11), 11)
    assert sampled.item() == pytest.approx(F.cross_entropy(hidden @ table.T, targets).item())


def test_the_sampled_partition_is_unbiased(inputs) -> None:
    hidden, table, targets = inputs
    logits = (hidden @ table.T).detach()
    exact = logits.exp().sum(1)
    total, draws = torch.zeros(7, dtype=torch.float64), 1500
    generator = torch.Generator().manual_seed(1)
    positive = logits.gather(1, targets[:, None]).squeeze(1).exp()
    for _ in range(draws):
        negatives = torch.randperm(11, generator=generator)[:4]
        # exp(loss of one position) = partition / exp(positive logit).
        each = [
            losses.sampled_softmax(hidden[i : i + 1], table, targets[i : i + 1], negatives, 11)
            for i in range(7)
        ]
        total += torch.stack(each).detach().exp() * positive
    torch.testing.assert_close(total / draws, exact, rtol=0.05, atol=0)


def test_binary_by_hand() -> None:
    hidden, table = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.5, 9.0]])
    loss = losses.binary_cross_entropy(hidden, table, torch.tensor([0]), torch.tensor([1]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2.0)) + math.log(1 + math.exp(0.5)))

"""Semantic ids: an item's text as a few code words, alike for items alike (Rajput et al. 2023, section 3.1).

Simplified: AdamW instead of Adagrad, and far fewer passes over the items.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from components.retrieve.config import SemanticIdConfig
from components.retrieve.interactions import Ints
from components.retrieve.networks.saved import saved_array
from components.shared.errors import TrainingError
from components.shared.language_model.dtype import are_finite

SAMPLE = 20_000  # items that the code words start from
ROUNDS = 10  # of k-means


class ResidualAutoencoder(nn.Module):
    """An autoencoder whose narrowest place is a sum of code words, one of each level (equation 1)."""

    def __init__(self, width: int, config: SemanticIdConfig) -> None:
        super().__init__()
        sizes = (width, *config.hidden, config.dim)
        self.encoder, self.decoder = _layers(sizes), _layers(sizes[::-1])
        self.books = nn.Parameter(torch.zeros(config.levels, config.codes, config.dim))
        self.commitment = config.commitment

    def quantise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nearest code words of [items, dim]: numbers [items, levels] and vectors [..., dim]."""
        residual, codes, words = z, [], []
        for book in self.books:
            nearest = torch.cdist(residual.detach(), book.detach()).argmin(1)
            codes.append(nearest)
            words.append(book[nearest])
            residual = residual - words[-1].detach()
        return torch.stack(codes, 1), torch.stack(words, 1)

    def loss(self, x: Tensor) -> Tensor:
        """Return reconstruction plus quantisation loss of embeddings [items, width]."""
        z = self.encoder(x)
        _, words = self.quantise(z)
        before = z[:, None] - torch.cat([torch.zeros_like(words[:, :1]), words[:, :-1].detach()], 1).cumsum(1)
        pull = (before.detach() - words).square().sum(-1) + self.commitment * (
            before - words.detach()
        ).square().sum(-1)
        straight = z + (words.sum(1) - z).detach()  # the gradient passes the code words by
        return (self.decoder(straight) - x).square().sum(-1).mean() + pull.sum(1).mean()

    @torch.no_grad()
    def start_from(self, x: Tensor) -> None:
        """Set each level's code words to the k-means centres of what the levels before left of `x`."""
        residual = self.encoder(x)
        for level, book in enumerate(self.books):
            chosen = torch.randperm(len(residual), device=x.device)
            centres = residual[chosen.repeat(-(-len(book) // len(residual)))[: len(book)]]
            for _ in range(ROUNDS):
                nearest = torch.cdist(residual, centres).argmin(1)
                counts = torch.bincount(nearest, minlength=len(book))[:, None]
                sums = torch.zeros_like(centres).index_add_(0, nearest, residual)
                centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
            self.books.data[level] = centres
            residual = residual - centres[torch.cdist(residual, centres).argmin(1)]


def _layers(sizes: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def semantic_ids(
    vectors: npt.NDArray[np.float32],
    config: SemanticIdConfig,
    seed: int,
    device: torch.device,
    saved: Path | None = None,
) -> Ints:
    """Return each item's code words [items, levels + 1]; the last one tells apart items with the same words.

    `vectors` [items, width] are sentence embeddings. The file `saved` spares a second training. Raises
    TrainingError: the loss is not a number.
    """
    return saved_array(saved, lambda: _learnt(torch.from_numpy(vectors).to(device), config, seed))


def _learnt(x: Tensor, config: SemanticIdConfig, seed: int) -> Ints:
    ids = with_tie_breaker(_trained(x, config, np.random.default_rng(seed)))
    same = int((ids[:, -1] > 0).sum())
    print(f"retrieve: semantic ids: {same:,} of {len(ids):,} items share all words with another", flush=True)
    return ids


def _trained(x: Tensor, config: SemanticIdConfig, generator: np.random.Generator) -> Ints:
    network = ResidualAutoencoder(x.shape[1], config).to(x.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.0, fused=True)
    some = generator.permutation(len(x))[:SAMPLE]
    network.start_from(x[torch.from_numpy(some).to(x.device)])
    for epoch in range(config.epochs):
        order = torch.from_numpy(generator.permutation(len(x))).to(x.device)
        total = 0.0
        for rows in order.split(config.batch_size):
            loss = network.loss(x[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        if not np.isfinite(total) or not are_finite(network):
            raise TrainingError(
                f"semantic ids: the loss or a weight is no longer a number in epoch {epoch + 1}; lower "
                f"retrieve.tiger.ids.learning_rate (now {config.learning_rate})"
            )
        if (epoch + 1) % max(1, config.epochs // 5) == 0:
            told = f"epoch {epoch + 1}/{config.epochs} loss {total / len(x):.4f}"
            print(f"retrieve: semantic ids: {told}", flush=True)
    with torch.no_grad():
        parts = [network.quantise(network.encoder(part))[0] for part in x.split(8192)]
    return torch.cat(parts).cpu().numpy().astype(np.int64)


def with_tie_breaker(codes: Ints) -> Ints:
    """Return [items, levels + 1]: items with the same codes are numbered 0, 1 … in their order."""
    _, place = np.unique(codes, axis=0, return_inverse=True)
    order = np.argsort(place.ravel(), kind="stable")
    sorted_place = place.ravel()[order]
    number = np.empty(len(codes), np.int64)
    number[order] = np.arange(len(codes)) - np.searchsorted(sorted_place, sorted_place)
    return np.column_stack([codes, number])

"""Semantic ids: code words that similar texts share (Rajput et al. 2023, section 3.1).

Simplified: AdamW instead of Adagrad, and far fewer passes over the items.
"""

from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from components.retrieve.interactions import Ints
from components.retrieve.model_config import SemanticIdConfig
from components.shared.language_model.checks import check_finite
from components.shared.logs import logger, progress

log = logger("retrieve")

SAMPLE = 20_000  # items that k-means initialises the code words from
ROUNDS = 10  # of k-means


class ResidualAutoencoder(nn.Module):
    """Autoencoder with a sum of code words, one per level, as bottleneck (equation 1)."""

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
        pull = (before.detach() - words).square().sum(-1)
        pull = pull + self.commitment * (before - words.detach()).square().sum(-1)
        straight = z + (words.sum(1) - z).detach()  # straight-through estimator
        return (self.decoder(straight) - x).square().sum(-1).mean() + pull.sum(1).mean()

    @torch.no_grad()
    def init_codebooks(self, x: Tensor) -> None:
        """Set each level's code words to the k-means centres of the residuals of `x`."""
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


def semantic_ids(vectors: Tensor, config: SemanticIdConfig, seed: int, device: torch.device) -> Ints:
    """Return code words [items, levels + 1] of `vectors`; the last ones break ties."""
    x, generator = vectors.to(device), np.random.default_rng(seed)
    network = ResidualAutoencoder(x.shape[1], config).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.0, fused=True)
    sample = generator.permutation(len(x))[:SAMPLE]
    network.init_codebooks(x[torch.from_numpy(sample).to(device)])
    for epoch in range(1, config.epochs + 1):
        order = torch.from_numpy(generator.permutation(len(x))).to(device)
        total = 0.0
        for rows in order.split(config.batch_size):
            loss = network.loss(x[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        where = (f"in epoch {epoch}", "retrieve.tiger.ids", config.learning_rate)
        check_finite(*where, total, network=network, hint="")
        if epoch % max(1, config.epochs // 20) == 0:
            progress(log, epoch, config.epochs, f"semantic ids: loss {total / len(x):.4f}")
    with torch.no_grad():
        parts = [network.quantise(network.encoder(part))[0] for part in x.split(8192)]
    ids = with_tie_breaker(torch.cat(parts).cpu().numpy().astype(np.int64))
    shared = np.count_nonzero(ids[:, -1])
    log.info("semantic ids: %d of %d items share all words with another", shared, len(ids))
    return ids


def with_tie_breaker(codes: Ints) -> Ints:
    """Return `codes` with a column that numbers items with equal codes."""
    number = pd.DataFrame(codes).groupby(list(range(codes.shape[1]))).cumcount()
    return np.column_stack([codes, number])

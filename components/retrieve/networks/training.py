"""The one trainer of the neural recommenders: batches of like length, early stopping, best weights."""

import abc
import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components.retrieve.config import TrainingConfig
from components.retrieve.interactions import Examples, Histories
from components.retrieve.ranking import Recommender, Scorer, hits, ndcg
from components.shared.artifacts import training_state
from components.shared.errors import TrainingError
from components.shared.language_model.dtype import are_finite, bfloat16_matmul, torch_dtype

LEAST_RATE = 0.02  # of the learning rate, at the end of the cosine schedule
BUCKET = 16
"""Batches whose sequences are sorted by length together, so that padding is little work."""


class SequenceNetwork(nn.Module, abc.ABC):
    """A network that learns from sequences of items."""

    num_items: int
    max_length: int

    def cut(self, histories: Histories) -> Histories:
        """Return the pieces of 2 to max_length + 1 items that are learnt from: windows."""
        return histories.windows(self.max_length + 1)

    @abc.abstractmethod
    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the training loss of sequences [rows, <= max_length + 1], padded on the right."""

    @abc.abstractmethod
    def recommender(self, device: torch.device) -> Recommender:
        """Return what answers with this network, which lies on `device`."""


class VectorNetwork(SequenceNetwork):
    """A network that turns a history into a vector; its product with the item vectors is the score."""

    @abc.abstractmethod
    def user_vectors(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return [rows, dim] for histories [rows, <= max_length] padded on the right; lengths >= 1."""

    @abc.abstractmethod
    def item_vectors(self) -> Tensor:
        """Return [items, dim]."""

    def recommender(self, device: torch.device) -> Recommender:
        """Return the scores by inner products."""
        return NetworkRecommender(self, device)


@dataclass
class TrainingLog:
    """What happened: a loss an epoch, a validation NDCG@10 an evaluation, and the best one's epoch."""

    losses: list[float] = field(default_factory=list)
    valid_ndcg: list[float] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0


class NetworkRecommender(Scorer):
    """Scores of a trained network."""

    def __init__(self, network: VectorNetwork, device: torch.device) -> None:
        self.network = network.eval()
        self.num_items = network.num_items
        self.device = device
        self._table: Tensor | None = None

    @torch.no_grad()
    def scores(self, histories: Histories) -> Tensor:
        """Return user vectors times item vectors; an empty history scores 0 everywhere."""
        latest = histories.last(self.network.max_length)
        if self._table is None:
            self._table = self.network.item_vectors().clone()
        users = torch.zeros(len(latest), self._table.shape[1], device=self.device)
        order = np.argsort(latest.lengths, kind="stable")
        for rows in np.array_split(order, max(1, len(order) // 256)):
            rows = rows[latest.lengths[rows] > 0]
            if len(rows):
                batch = pad(latest.take(rows), self.num_items, self.device)
                users[torch.from_numpy(rows).to(self.device)] = self.network.user_vectors(*batch)
        return users @ self._table.T


def pad(histories: Histories, filler: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return items [rows, longest] padded on the right with `filler`, and lengths [rows]."""
    lengths = histories.lengths
    items = np.full((len(histories), lengths.max(initial=0)), filler, np.int64)
    items[np.arange(items.shape[1]) < lengths[:, None]] = histories.flat()[1]
    return torch.from_numpy(items).to(device), torch.from_numpy(lengths).to(device)


def batches(
    sequences: Histories, size: int, generator: np.random.Generator, filler: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every sequence once, in shuffled batches of `size` sequences of like length."""
    order, lengths = generator.permutation(len(sequences)), sequences.lengths
    groups: list[np.ndarray] = []
    for start in range(0, len(order), size * BUCKET):
        chunk = order[start : start + size * BUCKET]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        groups += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    for index in generator.permutation(len(groups)):
        yield pad(sequences.take(groups[index]), filler, device)


@dataclass
class _State:
    """What a training that goes on needs, beside the network itself and torch's random state."""

    network: SequenceNetwork
    optimizer: torch.optim.Optimizer
    generator: np.random.Generator
    best: dict[str, Tensor]
    log: TrainingLog = field(default_factory=TrainingLog)
    epoch: int = 0
    highest: float = -1.0
    since: int = 0

    def save(self, file: Path) -> None:
        """Write everything, whole or not at all."""
        training_state.save(file, self.network.state_dict(), self.optimizer, self._rest())

    def resume(self, file: Path) -> bool:
        """Take up what `save` wrote, torch's random state included; False where there is nothing to."""
        weights = self.network.state_dict()
        rest = training_state.resume(file, weights, self.optimizer, self._rest())
        if rest is None:
            return False
        self.best, self.log = rest["best"], TrainingLog(**rest["log"])
        self.epoch, self.highest, self.since = rest["counts"]
        self.generator.bit_generator.state = json.loads(rest["generator"])
        torch.set_rng_state(rest["torch"])
        if rest["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(rest["cuda"])
        return True

    def _rest(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "log": asdict(self.log),
            "counts": (self.epoch, self.highest, self.since),
            "generator": json.dumps(self.generator.bit_generator.state),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }


def train(
    name: str,
    key: str,
    network: SequenceNetwork,
    sequences: Histories,
    valid: Examples,
    config: TrainingConfig,
    seed: int,
    device: torch.device,
    saved: Path | None = None,
) -> tuple[Recommender, TrainingLog]:
    """Train `network` on `sequences` and return it with the weights of its best evaluation.

    `name` is what it is called, `key` says where `config` stands in the section retrieve of a profile.
    `valid` judges when to stop; without examples the last epoch's weights are kept. The same input, seed
    and number of threads give the same weights. The file `saved` is written after every epoch; where it
    is there already, training goes on after that epoch and ends as if it had never stopped.

    Raises:
        TrainingError: the loss or a weight is not a number. OutputError: `saved` cannot be written.
    """
    started = time.monotonic()
    pieces = network.cut(sequences)
    if len(valid) > config.valid_users > 0:
        chosen = np.random.default_rng(seed).choice(len(valid), config.valid_users, replace=False)
        valid = valid.take(np.sort(chosen))
    network.to(device)
    if not pieces.lengths.min(initial=2) >= 2 or not len(pieces):
        print(f"retrieve: {name}: no transition to learn from, it stays as initialised", flush=True)
        return network.recommender(device), TrainingLog()
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.98),
        fused=True,  # one pass over weights and moments, which are most of the memory here
    )
    state = _State(network, optimizer, np.random.default_rng(seed), copy.deepcopy(network.state_dict()))
    if saved and state.resume(saved):
        print(f"retrieve: {name}: going on after epoch {state.epoch}", flush=True)
    before, low = state.log.seconds, torch_dtype(config.dtype, device) == torch.bfloat16
    while state.epoch < config.epochs and not 0 < config.patience <= state.since:
        state.epoch += 1
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, state.epoch)
        network.train()
        feed = batches(pieces, config.batch_size, state.generator, network.num_items, device)
        with bfloat16_matmul(low and device.type == "cpu"):
            loss = _epoch(network, feed, optimizer, config, low)
        if not np.isfinite(loss) or not are_finite(network):
            raise TrainingError(
                f"{name}: the loss or a weight is no longer a number in epoch {state.epoch}; lower "
                f"retrieve.{key}.learning_rate (now {config.learning_rate}), or its clip_norm (now "
                f"{config.clip_norm}, 0 = none)"
            )
        state.log.losses.append(loss)
        judged = _judge(state, valid, config, device)
        state.log.seconds = before + time.monotonic() - started
        print(
            f"retrieve: {name}: epoch {state.epoch}/{config.epochs} loss {state.log.losses[-1]:.4f}"
            f"{judged} ({state.log.seconds:.0f} s)",
            flush=True,
        )
        if saved:
            state.save(saved)
    if len(valid):
        network.load_state_dict(state.best)
        kept = f"the weights of epoch {state.log.best_epoch} of {state.epoch} are kept"
        print(f"retrieve: {name}: {kept}", flush=True)
    return network.recommender(device), state.log


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """Return the learning rate of `epoch`, counted from 1."""
    if config.schedule == "constant":
        return config.learning_rate
    share = 0.5 * (1 + math.cos(math.pi * (epoch - 1) / max(1, config.epochs - 1)))
    return config.learning_rate * max(LEAST_RATE, share)


def _judge(state: _State, valid: Examples, config: TrainingConfig, device: torch.device) -> str:
    """Evaluate where it is time to, keep the best weights; return what to say of it."""
    if not len(valid):
        state.log.best_epoch = state.epoch
        return ""
    if state.epoch % config.eval_every and state.epoch != config.epochs:
        return ""
    reached = validation_ndcg(state.network.recommender(device), valid, state.network.num_items)
    state.log.valid_ndcg.append(reached)
    state.since += 1
    if reached > state.highest:
        state.highest, state.since, state.log.best_epoch = reached, 0, state.epoch
        state.best = copy.deepcopy(state.network.state_dict())
    return f" valid ndcg@10 {reached:.4f}"


def validation_ndcg(recommender: Recommender, valid: Examples, num_items: int, k: int = 10) -> float:
    """Return the mean NDCG@k over the full catalogue, seen items excluded; NaN without examples."""
    found = hits(recommender.answer(valid, k), valid.labels, num_items)
    return float(ndcg(found, valid.labels.lengths, k).mean())


def _epoch(
    network: SequenceNetwork,
    feed: Iterator[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
    low: bool,
) -> float:
    """Train on every batch once, `low` with bfloat16 products, and return the mean loss.

    A loss that is not a number is returned at once.
    """
    total, count = 0.0, 0
    for items, lengths in feed:
        with torch.autocast("cuda", torch.bfloat16, enabled=low and items.is_cuda):
            loss = network.loss(items, lengths)
        value = loss.item()
        if not np.isfinite(value):
            return value
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.clip_norm:
            nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        optimizer.step()
        total, count = total + value, count + 1
    return total / max(count, 1)

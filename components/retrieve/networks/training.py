"""Training of the neural recommenders: batches of similar length, early stopping, best weights, resume."""

import abc
import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from components.retrieve.interactions import Histories, Queries
from components.retrieve.model_config import TrainingConfig
from components.retrieve.ranking import Recommender, ndcg
from components.shared.artifacts import training_state
from components.shared.language_model.checks import check_finite
from components.shared.language_model.dtype import bfloat16_matmul, torch_dtype
from components.shared.logs import logger, progress

log = logger("retrieve")

LEAST_RATE = 0.02  # of the learning rate, at the end of the cosine schedule
BUCKET = 16
"""Batches whose sequences are sorted by length together, so that there is little padding."""


class SequenceNetwork(nn.Module, abc.ABC):
    """A network that learns from sequences of items."""

    num_items: int
    max_length: int

    def training_sequences(self, histories: Histories) -> Histories:
        """Return windows of 2 to max_length + 1 items to train on."""
        return histories.windows(self.max_length + 1)

    @abc.abstractmethod
    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the training loss of sequences [rows, <= max_length + 1], padded on the right."""

    @abc.abstractmethod
    def recommender(self) -> Recommender:
        """Return the recommender of this network."""


@dataclass
class TrainingLog:
    """Loss per epoch, validation NDCG@10 per evaluation, the best evaluation's epoch, and seconds."""

    losses: list[float] = field(default_factory=list)
    valid_ndcg: list[float] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0


def pad(histories: Histories, filler: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return items [rows, longest] padded on the right with `filler`, and lengths [rows]."""
    lengths = histories.lengths
    items = np.full((len(histories), lengths.max(initial=0)), filler, np.int64)
    items[np.arange(items.shape[1]) < lengths[:, None]] = histories.flat()[1]
    return torch.from_numpy(items).to(device), torch.from_numpy(lengths).to(device)


def batches(
    sequences: Histories, size: int, generator: np.random.Generator, filler: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every sequence once, in shuffled batches of `size` sequences of similar length."""
    order, lengths = generator.permutation(len(sequences)), sequences.lengths
    groups: list[np.ndarray] = []
    for start in range(0, len(order), size * BUCKET):
        chunk = order[start : start + size * BUCKET]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        groups += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    for index in generator.permutation(len(groups)):
        yield pad(sequences.take(groups[index]), filler, device)


class _Training:
    """The state of one training, saved after every epoch."""

    def __init__(
        self, network: SequenceNetwork, config: TrainingConfig, seed: int, device: torch.device
    ) -> None:
        self.network, self.config, self.device = network.to(device), config, device
        self.log = TrainingLog()
        self.best = copy.deepcopy(network.state_dict())
        self.generator = np.random.default_rng(seed)
        self.optimizer = torch.optim.AdamW(
            network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.98),
            fused=True,  # one pass over weights and moments, which are most of the memory here
        )

    @property
    def epoch(self) -> int:
        """Epochs trained."""
        return len(self.log.losses)

    @property
    def is_done(self) -> bool:
        """Whether all epochs are trained, or `patience` evaluations brought nothing better."""
        reached = self.log.valid_ndcg
        stale = len(reached) - 1 - int(np.argmax(reached)) if reached else 0
        return self.epoch >= self.config.epochs or 0 < self.config.patience <= stale

    def run_epoch(self, sequences: Histories) -> float:
        """Train one epoch, or until a loss is not finite; return the mean loss."""
        config, network, device = self.config, self.network.train(), self.device
        losses: list[float] = []
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.epoch + 1)
        bfloat16 = torch_dtype(config.dtype, device) == torch.bfloat16
        with bfloat16_matmul(bfloat16 and device.type == "cpu"):
            for batch in batches(sequences, config.batch_size, self.generator, network.num_items, device):
                with torch.autocast("cuda", torch.bfloat16, enabled=bfloat16 and device.type == "cuda"):
                    loss = network.loss(*batch)
                losses.append(loss.item())
                if not math.isfinite(losses[-1]):
                    break
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                if config.clip_norm:
                    nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
                self.optimizer.step()
        self.log.losses.append(sum(losses) / len(losses))
        return self.log.losses[-1]

    def evaluate(self, valid: Queries) -> str:
        """Evaluate every `eval_every` epochs, keep the best weights, and return what to log."""
        if not len(valid) or (self.epoch % self.config.eval_every and self.epoch != self.config.epochs):
            return ""
        reached = validation_ndcg(self.network.recommender(), valid)
        if reached > max(self.log.valid_ndcg, default=-1.0):
            self.best, self.log.best_epoch = copy.deepcopy(self.network.state_dict()), self.epoch
        self.log.valid_ndcg.append(reached)
        return f", valid ndcg@10 {reached:.4f}"

    def resume(self, file: Path) -> None:
        """Restore what `save` wrote to `file`, if that is there and usable."""
        rest = training_state.resume(file, self.network.state_dict(), self.optimizer, self._rest())
        if rest is None:
            return
        self.best, self.log = rest["best"], TrainingLog(**rest["log"])
        self.generator.bit_generator.state = json.loads(rest["generator"])
        torch.set_rng_state(rest["torch"])
        if rest["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(rest["cuda"])

    def save(self, file: Path) -> None:
        """Write weights, optimizer, best weights, log and random states to `file`, atomically."""
        training_state.save(file, self.network.state_dict(), self.optimizer, self._rest())

    def _rest(self) -> dict:
        return {
            "best": self.best,
            "log": asdict(self.log),
            "generator": json.dumps(self.generator.bit_generator.state),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }


def train(
    name: str,
    key: str,
    network: SequenceNetwork,
    histories: Histories,
    valid: Queries,
    config: TrainingConfig,
    seed: int,
    device: torch.device,
    checkpoint: Path,
) -> tuple[Recommender, TrainingLog]:
    """Train `network`; return its recommender, at the best weights by `valid`, and its log.

    `name` is for people, `key` says where `config` stands in the profile's section retrieve. The state is
    saved in `checkpoint` after every epoch; a stopped training resumes and ends as if it had never stopped.
    Without queries with a history in `valid`, the last weights are kept.
    """
    started = time.monotonic()
    training, sequences = _Training(network, config, seed, device), network.training_sequences(histories)
    # Without a history all items score 0: of a network that says nothing.
    valid = valid.take(np.flatnonzero(valid.histories.lengths))
    if len(valid) > config.valid_users > 0:
        chosen = np.random.default_rng(seed).choice(len(valid), config.valid_users, replace=False)
        valid = valid.take(np.sort(chosen))
    if not len(sequences):
        log.warning("%s: no history of two items to learn from, so it keeps its initial weights", name)
        return network.recommender(), training.log
    training.resume(checkpoint)
    if training.epoch:
        log.info("%s: resumes after epoch %d", name, training.epoch)
    seconds_before = training.log.seconds
    while not training.is_done:
        loss = training.run_epoch(sequences)
        when, hint = f"in epoch {training.epoch}", f", or its clip_norm ({config.clip_norm:g}; 0 = none)"
        check_finite(when, f"retrieve.{key}", config.learning_rate, loss, network=network, hint=hint)
        reached = training.evaluate(valid)
        training.log.seconds = seconds_before + time.monotonic() - started
        detail = f"{name}: loss {loss:.4f}{reached}, {training.log.seconds:.0f} s"
        progress(log, training.epoch, config.epochs, detail)
        training.save(checkpoint)
    if len(valid):
        network.load_state_dict(training.best)
        log.info("%s: keeps epoch %d of %d", name, training.log.best_epoch, training.epoch)
    return network.recommender(), training.log


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """Return the learning rate of `epoch`, counted from 1."""
    if config.schedule == "constant":
        return config.learning_rate
    share = 0.5 * (1 + math.cos(math.pi * (epoch - 1) / max(1, config.epochs - 1)))
    return config.learning_rate * max(LEAST_RATE, share)


def validation_ndcg(recommender: Recommender, valid: Queries) -> float:
    """Return the mean NDCG@10 over the full catalogue, seen items excluded; NaN without queries."""
    hits = recommender.recommend(valid, 10).hits(valid)
    return float(ndcg(hits, valid.labels.lengths, 10).mean())

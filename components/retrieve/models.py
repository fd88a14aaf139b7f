"""From a model's name to the trained recommender."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from components.retrieve.bert4rec import Bert4rec
from components.retrieve.config import NextItemConfig, RetrieveConfig
from components.retrieve.content import Content
from components.retrieve.counts import ItemToItem, Popularity
from components.retrieve.fdsa import Fdsa
from components.retrieve.gru4rec import Gru4rec
from components.retrieve.interactions import Examples, Histories, Interactions, Ints
from components.retrieve.ranking import Recommender
from components.retrieve.s3rec import Pretraining, S3rec
from components.retrieve.sasrec import Sasrec
from components.retrieve.training import SequenceNetwork, TrainingLog, train


def fit(
    name: str,
    config: RetrieveConfig,
    data: Interactions,
    train_part: Histories,
    valid: Examples,
    fold: int,
    place: Path | None = None,
) -> tuple[Recommender, TrainingLog]:
    """Train model `name` on `train_part`; `valid` (of the same users) only says when to stop.

    `fold` is the fold held out, -1 for none; it only enters the seed. In the folder `place` a network
    saves its progress after every epoch, and goes on from there.
    """
    num_items = data.num_items
    if name == "popularity":
        return Popularity(train_part, num_items), TrainingLog()
    if name == "item_to_item":
        return ItemToItem(train_part, num_items, config.item_to_item), TrainingLog()
    if name == "content":
        return Content(train_part, data.tags, num_items, config.content), TrainingLog()
    seed = stable_seed(config.seed, f"{name}:{fold}")
    with seeded(seed):
        section, untrained = network(name, config, num_items, data.tags)
        label = name if fold < 0 else f"{name} without fold {fold}"
        on = device(config)
        saved = place / f"{name}-{'all' if fold < 0 else fold}.pt" if place else None
        if isinstance(untrained, S3rec):
            first = Pretraining(untrained, data.tags, config.s3rec)
            nobody = valid.take(np.arange(0))
            before = saved.with_suffix(".pretraining.pt") if saved else None
            plan = config.s3rec.pretraining
            train(f"{label} pre-training", first, train_part, nobody, plan, seed, on, before)
        return train(label, untrained, train_part, valid, section.training, seed, on, saved)


def network(
    name: str, config: RetrieveConfig, num_items: int, tags: Histories
) -> tuple[NextItemConfig, SequenceNetwork]:
    """Return the section of the neural model `name` and its network, freshly drawn from torch's state."""
    if name == "sasrec":
        return config.sasrec, Sasrec(num_items, config.sasrec)
    if name == "sasrec_bce":
        return config.sasrec_bce, Sasrec(num_items, config.sasrec_bce, "bce")
    if name == "gru4rec":
        return config.gru4rec, Gru4rec(num_items, config.gru4rec)
    if name == "bert4rec":
        return config.bert4rec, Bert4rec(num_items, config.bert4rec)
    if name == "fdsa":
        return config.fdsa, Fdsa(num_items, tags, config.fdsa)
    if name == "s3rec":
        return config.s3rec, S3rec(num_items, config.s3rec)
    raise ValueError(f"unknown model '{name}'")


def device(config: RetrieveConfig) -> torch.device:
    """Return the device that the configuration asks for."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def stable_seed(seed: int, text: str) -> int:
    """Return a 31-bit seed of (seed, text), the same in every process."""
    digest = hashlib.blake2b(f"{seed}:{text}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1


def user_folds(user_ids: list[str], folds: int, seed: int) -> Ints:
    """Return each user's fold in [0, folds): a stable hash of its id, so other users do not move it."""
    return np.array([stable_seed(seed, f"fold:{user}") % folds for user in user_ids], dtype=np.int64)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block, and leave its random state as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield

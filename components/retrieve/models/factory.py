"""From a model's name to the trained recommender."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from components.retrieve.config import RetrieveConfig, TrainingConfig
from components.retrieve.interactions import Examples, Histories, Interactions, Ints
from components.retrieve.models.bert4rec import Bert4rec
from components.retrieve.models.content import Content, tag_vectors
from components.retrieve.models.counts import ItemToItem, Popularity, item_counts
from components.retrieve.models.fdsa import Fdsa
from components.retrieve.models.gru4rec import Gru4rec
from components.retrieve.models.s3rec import Pretraining, S3rec
from components.retrieve.models.sasrec import Sasrec
from components.retrieve.models.tiger.model import Tiger
from components.retrieve.models.tiger.semantic_ids import semantic_ids
from components.retrieve.networks.text_encoder import item_vectors
from components.retrieve.networks.training import SequenceNetwork, TrainingLog, train
from components.retrieve.ranking import Recommender
from components.shared.errors import ConfigError


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
    saves its progress after every epoch, and goes on from there. The log's seconds are of all that it took:
    pre-training, embeddings and semantic ids, too.
    """
    started = time.monotonic()
    recommender: Recommender
    if name == "popularity":
        recommender, log = Popularity(item_counts(train_part, data.num_items)), TrainingLog()
    elif name == "item_to_item":
        recommender, log = ItemToItem(train_part, data.num_items, config.item_to_item), TrainingLog()
    elif name == "content":
        recommender, log = content(config, data, train_part, place), TrainingLog()
    else:
        recommender, log = _fit_network(name, config, data, train_part, valid, fold, place)
    # A training that went on after a stop has more seconds behind it than this call.
    log.seconds = max(log.seconds, time.monotonic() - started)
    return recommender, log


def _fit_network(
    name: str,
    config: RetrieveConfig,
    data: Interactions,
    train_part: Histories,
    valid: Examples,
    fold: int,
    place: Path | None,
) -> tuple[Recommender, TrainingLog]:
    seed = stable_seed(config.seed, f"{name}:{fold}")
    on = device(config)
    ids = tiger_ids(config, data, place) if name == "tiger" else None
    with seeded(seed):
        plan, untrained = network(name, config, data.num_items, data.tags, ids)
        label = name if fold < 0 else f"{name} without fold {fold}"
        saved = place / f"{name}-{'all' if fold < 0 else fold}.pt" if place else None
        if isinstance(untrained, S3rec):
            first = Pretraining(untrained, data.tags, config.s3rec)
            nobody = valid.take(np.arange(0))
            before = saved.with_suffix(".pretraining.pt") if saved else None
            warm_up = config.s3rec.pretraining
            key = "s3rec.pretraining"
            train(f"{label} pre-training", key, first, train_part, nobody, warm_up, seed, on, before)
        return train(label, f"{name}.training", untrained, train_part, valid, plan, seed, on, saved)


def network(
    name: str, config: RetrieveConfig, num_items: int, tags: Histories, ids: Ints | None = None
) -> tuple[TrainingConfig, SequenceNetwork]:
    """Return how the neural model `name` is trained, and its network, freshly drawn from torch's state.

    `ids` [items, words] are the semantic ids that "tiger" writes.
    """
    if name == "sasrec":
        return config.sasrec.training, Sasrec(num_items, config.sasrec)
    if name == "sasrec_bce":
        return config.sasrec_bce.training, Sasrec(num_items, config.sasrec_bce, "bce")
    if name == "gru4rec":
        return config.gru4rec.training, Gru4rec(num_items, config.gru4rec)
    if name == "bert4rec":
        return config.bert4rec.training, Bert4rec(num_items, config.bert4rec)
    if name == "fdsa":
        return config.fdsa.training, Fdsa(num_items, tags, config.fdsa)
    if name == "s3rec":
        return config.s3rec.training, S3rec(num_items, config.s3rec)
    if name == "tiger" and ids is not None:
        return config.tiger.training, Tiger(ids, config.tiger)
    raise ValueError(f"unknown model '{name}'")


def content(
    config: RetrieveConfig, data: Interactions, train_part: Histories, place: Path | None = None
) -> Content:
    """Return the content model, its vectors by tags or by text as the configuration says."""
    if config.content.by == "tags":
        return Content(train_part, tag_vectors(data.tags, data.num_items), config.content)
    return Content(train_part, text_vectors(config, data, place), config.content)


def text_vectors(config: RetrieveConfig, data: Interactions, place: Path | None) -> npt.NDArray[np.float32]:
    """Return the items' sentence embeddings, made once for all models and folds of a run."""
    return item_vectors(
        data.texts, config.encoder, device(config), place / "text_vectors.npz" if place else None
    )


def tiger_ids(config: RetrieveConfig, data: Interactions, place: Path | None) -> Ints:
    """Return the items' semantic ids, the same for all folds: they owe nothing to interactions."""
    seed = stable_seed(config.seed, "semantic ids")
    vectors = text_vectors(config, data, place)  # before the seed: an encoder may draw weights that it lacks
    with seeded(seed):
        return semantic_ids(
            vectors,
            config.tiger.ids,
            seed,
            device(config),
            place / "semantic_ids.npz" if place else None,
        )


def device(config: RetrieveConfig) -> torch.device:
    """Return the device that the configuration asks for. Raises ConfigError: there is no such."""
    there = torch.cuda.is_available()
    if config.device == "auto":
        return torch.device("cuda" if there else "cpu")
    if config.device == "cuda" and not there:
        raise ConfigError("retrieve.device is cuda, but torch finds no GPU here; set auto or cpu")
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

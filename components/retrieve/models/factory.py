"""From a model's name to the trained recommender."""

import hashlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import Histories, Interactions, Ints, Queries
from components.retrieve.models.bert4rec import Bert4rec
from components.retrieve.models.bsarec import Bsarec
from components.retrieve.models.co_occurrence.item_to_item import ItemToItem
from components.retrieve.models.co_occurrence.transition_graph import TransitionGraph
from components.retrieve.models.content import Content, tag_vectors
from components.retrieve.models.fdsa import Fdsa
from components.retrieve.models.gru4rec import Gru4rec
from components.retrieve.models.popularity import Popularity, item_counts
from components.retrieve.models.s3rec import Pretraining
from components.retrieve.models.sasrec import Sasrec
from components.retrieve.models.sasrec_text import SasrecText, centred
from components.retrieve.models.tiger.model import Tiger
from components.retrieve.models.tiger.semantic_ids import semantic_ids
from components.retrieve.networks import vector_cache
from components.retrieve.networks.text_encoder import encode
from components.retrieve.networks.training import SequenceNetwork, TrainingLog, train
from components.retrieve.networks.vector_cache import vectors_of
from components.retrieve.ranking import Recommender
from components.shared.artifacts import checkpoint_store
from components.shared.artifacts.outputs import atomic_file
from components.shared.artifacts.training_state import read_archive
from components.shared.errors import ConfigError


def fit(
    name: str,
    config: RetrieveConfig,
    data: Interactions,
    train_part: Histories,
    valid: Queries,
    fold: int,
    checkpoint_dir: Path,
) -> tuple[Recommender, TrainingLog]:
    """Train model `name` on `train_part`; `valid` (of the same users) only decides when to stop.

    `fold`, held out or -1, only enters the seed. The log's seconds include pre-training and embeddings.
    """
    started = time.monotonic()
    recommender: Recommender
    log = TrainingLog()
    if name == "popularity":
        recommender = Popularity(item_counts(train_part, data.num_items))
    elif name == "item_to_item":
        recommender = ItemToItem(train_part, data.num_items, config.item_to_item)
    elif name == "directed":
        recommender = ItemToItem(train_part, data.num_items, config.directed, is_directed=True)
    elif name == "transition_graph":
        recommender = TransitionGraph(train_part, data.num_items, config.transition_graph)
    elif name == "content":
        recommender = content(config, data, train_part, checkpoint_dir)
    else:
        label = name if fold < 0 else f"{name} without fold {fold}"
        checkpoint = checkpoint_dir / f"{label}.pt"
        seed = stable_seed(config.seed, f"{name}:{fold}")
        learn = partial(train, histories=train_part, seed=seed, device=device(config))
        ids = tiger_ids(config, data, checkpoint_dir) if name == "tiger" else None
        vectors = known_texts(config, data, checkpoint_dir) if name == "sasrec_text" else None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = network(
                name, config, data.num_items, data.tags, ids, vectors, torch.from_numpy(data.kinds)
            )
            if name == "s3rec" and isinstance(model, Sasrec):
                learn(
                    f"{label} pre-training",
                    "s3rec.pretraining",
                    Pretraining(model, data.tags, config.s3rec),
                    valid=valid.take(slice(0)),
                    config=config.s3rec.pretraining,
                    checkpoint=checkpoint.with_suffix(".pretraining.pt"),
                )
            schedule = {"config": getattr(config, name).training, "checkpoint": checkpoint}
            recommender, log = learn(label, f"{name}.training", model, valid=valid, **schedule)
    # A resumed training took more seconds than this call.
    log.seconds = max(log.seconds, time.monotonic() - started)
    return recommender, log


def network(
    name: str,
    config: RetrieveConfig,
    num_items: int,
    tags: Histories,
    ids: Ints | None = None,
    vectors: Tensor | None = None,
    kinds: Tensor | None = None,
) -> SequenceNetwork:
    """Return the network of model `name`; `ids` [items, words] are TIGER's semantic ids.

    `vectors` [items, width] are sentence embeddings, `kinds` [items, 2] those of `Interactions`; without
    them, sasrec_text is SASRec.
    """
    if name == "tiger" and ids is not None:
        return Tiger(ids, config.tiger)
    build: dict[str, Callable[[], SequenceNetwork]] = {
        "sasrec": lambda: Sasrec(num_items, config.sasrec),
        "sasrec_text": lambda: (
            Sasrec(num_items, config.sasrec_text)
            if vectors is None or kinds is None
            else SasrecText(vectors, kinds, config.sasrec_text)
        ),
        "sasrec_bce": lambda: Sasrec(num_items, config.sasrec_bce, is_binary=True),
        "gru4rec": lambda: Gru4rec(num_items, config.gru4rec),
        "bert4rec": lambda: Bert4rec(num_items, config.bert4rec),
        "fdsa": lambda: Fdsa(num_items, tags, config.fdsa),
        "bsarec": lambda: Bsarec(num_items, config.bsarec),
        # Pre-training reads whole windows, one item longer than histories.
        "s3rec": lambda: Sasrec(num_items, config.s3rec, extra=1),
    }
    return build[name]()


def content(
    config: RetrieveConfig, data: Interactions, train_part: Histories, checkpoint_dir: Path
) -> Content:
    """Return the content model, by tags or by text as configured."""
    if config.content.by == "tags":
        vectors = tag_vectors(data.tags, data.num_items)
    else:
        vectors = text_vectors(config, data, checkpoint_dir)
    return Content(train_part, vectors, config.content)


def text_vectors(config: RetrieveConfig, data: Interactions, checkpoint_dir: Path) -> Tensor:
    """Return the items' sentence embeddings, computed once for all models and folds."""
    file = checkpoint_dir / vector_cache.FILE
    found = vectors_of(data.texts, file, lambda texts: encode(texts, config.encoder, device(config)))
    return torch.from_numpy(found)


def known_texts(config: RetrieveConfig, data: Interactions, checkpoint_dir: Path) -> Tensor | None:
    """Return `text_vectors` centred, 0 for items without; None if items have ids alone."""
    if not data.is_described.any():
        return None
    known = text_vectors(config, data, checkpoint_dir) * torch.from_numpy(data.has_text)[:, None]
    return centred(known)


def tiger_ids(config: RetrieveConfig, data: Interactions, checkpoint_dir: Path) -> Ints:
    """Return the items' semantic ids; the same for all folds, since they use no interactions."""
    seed = stable_seed(config.seed, "semantic ids")
    vectors = text_vectors(config, data, checkpoint_dir)  # before the seed: loading may draw random weights
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        file, ids = checkpoint_dir / "semantic_ids.npz", config.tiger.ids
        return load_or_compute(file, lambda: semantic_ids(vectors, ids, seed, device(config)))


def load_or_compute(file: Path, compute: Callable[[], npt.NDArray]) -> npt.NDArray:
    """Return the array in `file` (.npz), or what `compute` returns, saved there."""
    array = read_archive(file, lambda path: np.load(path)["array"])
    if array is None:
        array = compute()
        with atomic_file(file) as unfinished, unfinished.open("wb") as opened:
            np.savez(opened, array=array)
        checkpoint_store.push(file.parent)
    return array


def device(config: RetrieveConfig) -> torch.device:
    """Return the configured device. Raises ConfigError: there is no GPU."""
    has_gpu = torch.cuda.is_available()
    if config.device == "cuda" and not has_gpu:
        raise ConfigError("retrieve.device is cuda, but torch finds no GPU here; set auto or cpu")
    return torch.device("cuda" if has_gpu and config.device != "cpu" else "cpu")


def stable_seed(seed: int, text: str) -> int:
    """Return a 31-bit seed of (seed, text), the same in every process."""
    digest = hashlib.blake2b(f"{seed}:{text}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1


def user_folds(user_ids: list[str], folds: int, seed: int) -> Ints:
    """Return each user's fold in [0, folds), by a stable hash of its id."""
    return np.array([stable_seed(seed, f"fold:{user}") % folds for user in user_ids], dtype=np.int64)

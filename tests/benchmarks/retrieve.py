"""Measure the conventional recommenders on Amazon Beauty: full catalogue, leave-one-out, seen excluded.

    python tests/benchmarks/retrieve.py --models popularity,item_to_item,sasrec

prints a row a model (Recall and NDCG on test, training and scoring seconds, one seed) and, with `--sort`,
the time of top-100 for all users beside a plain full sort. The data is the reference sequences file
(one user a line, items in time order) in the folder that RECLLM_DATA names.
"""

import argparse
import ast
import dataclasses
import gzip
import os
import time
from pathlib import Path

import numpy as np
import torch

from components.retrieve import models
from components.retrieve.config import RetrieveConfig, SasrecConfig, TrainingConfig
from components.retrieve.interactions import Histories, Interactions
from components.retrieve.ranking import Recommender, blocks
from components.retrieve.report import figures

DATA = Path(os.environ.get("RECLLM_DATA", "data")) / "amazon2014/Beauty.sequences.txt.gz"
META = "meta_Beauty.json.gz"


def beauty_config(epochs: int) -> RetrieveConfig:
    """The settings that the table is measured with; everything else is the project's default."""
    training = TrainingConfig(epochs=epochs, batch_size=128, patience=5, eval_every=2)
    softmax = SasrecConfig(dim=64, negatives=1024, temperature=0.1, dropout=0.3, training=training)
    published = SasrecConfig(
        layers=2,
        dropout=0.5,
        temperature=0.0,
        training=dataclasses.replace(training, learning_rate=1.0e-3),
    )
    base = RetrieveConfig(sasrec=softmax, sasrec_bce=published)
    recurrent = dataclasses.replace(base.gru4rec, negatives=1024, temperature=0.1, training=training)
    return dataclasses.replace(base, gru4rec=recurrent)


def read(path: Path, users: int) -> Interactions:
    """Read the reference sequences, the first `users` by id (0 = all)."""
    with gzip.open(path, "rt") as file:
        sequences = sorted(line.split() for line in file)[: users or None]
    item_ids = sorted({item for _, *items in sequences for item in items})
    index = {item: i for i, item in enumerate(item_ids)}
    lengths = np.array([len(line) - 1 for line in sequences])
    return Interactions(
        user_ids=[line[0] for line in sequences],
        item_ids=item_ids,
        items=np.array([index[item] for _, *items in sequences for item in items]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        train_end=lengths - 2,
        valid_end=lengths - 1,
        tags=read_tags(path.with_name(META), index),
    )


def read_tags(path: Path, index: dict[str, int]) -> Histories:
    """Read brand and categories of each item (one Python literal a line), as numbers."""
    tags: list[set[str]] = [set() for _ in index]
    with gzip.open(path, "rt") as file:
        for item in map(ast.literal_eval, file):
            if item["asin"] in index:
                paths = item.get("categories", [])
                tags[index[item["asin"]]] = {name for one in paths for name in one} | {item.get("brand", "")}
    number = {name: i for i, name in enumerate(sorted({name for names in tags for name in names}))}
    lengths = np.array([len(names) for names in tags])
    flat = np.array([number[name] for names in tags for name in sorted(names)])
    return Histories(flat, np.cumsum(lengths) - lengths, np.cumsum(lengths))


def full_sort(recommender: Recommender, histories: Histories, depth: int) -> np.ndarray:
    """Rank the plain way: score, hide what was seen, sort the whole catalogue."""
    parts = []
    for block in blocks(histories, recommender.num_items):
        scores = recommender.scores(block).numpy()
        rows, seen = block.flat()
        scores[rows, seen] = -np.inf
        parts.append(np.argsort(-scores, axis=1, kind="stable")[:, :depth])
    return np.concatenate(parts)


def main() -> None:
    """Train, rank, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--models", default="popularity,item_to_item,content,gru4rec,sasrec,sasrec_bce")
    parser.add_argument("--users", type=int, default=0, help="first users by id; 0 = all")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--sort", action="store_true", help="compare scoring with a full sort")
    options = parser.parse_args()
    data, config = read(options.data, options.users), beauty_config(options.epochs)
    test, valid = data.examples("test"), data.examples("valid")
    threads = torch.get_num_threads()
    print(f"{len(data.user_ids):,} users, {data.num_items:,} items, {threads} threads", flush=True)
    rows = []
    for name in options.models.split(","):
        started = time.monotonic()
        recommender, log = models.fit(name, config, data, data.train(), valid, -1)
        trained = time.monotonic()
        ranked = recommender.rank(test.histories, 100)
        scored = time.monotonic()
        reached = " | ".join(f"{value:.4f}" for value in figures(ranked, test, data.num_items).values())
        line = f"| {name} | {reached} | {log.best_epoch} | {trained - started:.0f} | {scored - trained:.1f} |"
        if options.sort:
            plain = full_sort(recommender, test.histories, 100)
            same = np.array_equal(np.where(ranked.items < 0, plain, ranked.items), plain)
            line += f" {time.monotonic() - scored:.1f} | {'equal' if same else 'DIFFERENT'} |"
        rows.append(line)
    print(
        "| model | R@5 | R@10 | N@5 | N@10 | best epoch | train s | top-100 s |"
        + " sort s | |" * options.sort
    )
    print("|---|" + "---:|" * (7 + 2 * options.sort))
    print("\n".join(rows))


if __name__ == "__main__":
    main()

"""Amazon 2014 and MovieLens-1M as Interactions, leave-one-out."""

import ast
import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.retrieve.interactions import UNKNOWN_TIME, Histories, Interactions
from components.retrieve.tables import numbers

FOLDER = Path(os.environ.get("RECLLM_DATA", "data"))
BEAUTY = FOLDER / "amazon2014/Beauty.sequences.txt.gz"
MOVIELENS = FOLDER / "movielens/ml-1m.interactions.parquet"
SECOND = 1_000_000
"""In microseconds."""

Log = tuple[dict[str, list[tuple[str, int]]], dict[str, dict[str, Any]]]
"""Items and Unix times of each user, oldest first, and what is known of each item."""


def beside(path: Path) -> list[Path]:
    """Return the files that belong to a log: its items', and the reviews of an Amazon domain."""
    if path.name == MOVIELENS.name:
        return [path.with_name("ml-1m.movies.dat")]
    domain = path.name.partition(".")[0]
    return [path.with_name(f"meta_{domain}.json.gz"), path.with_name(f"reviews_{domain}_5.json.gz")]


def read(path: Path, users: int, reads: tuple[str, ...]) -> Interactions:
    """Return a log, or a seeded sample of `users` (0 = all); items' texts hold `reads`."""
    sequences, known = (_movielens if path.name == MOVIELENS.name else _amazon)(path, *beside(path))
    user_ids = sorted(sequences)
    if 0 < users < len(user_ids):
        chosen = np.random.default_rng(0).choice(len(user_ids), users, replace=False)
        user_ids = [user_ids[i] for i in sorted(chosen)]
    events = [event for user in user_ids for event in sequences[user]]
    item_ids = sorted({item for item, _ in events})
    index = {item: i for i, item in enumerate(item_ids)}
    lengths = np.array([len(sequences[user]) for user in user_ids])
    items = [known.get(item, {}) for item in item_ids]
    tags = [sorted({*item.get("tags", ()), item.get("brand", "")} - {""}) for item in items]
    number = {name: i for i, name in enumerate(sorted({name for names in tags for name in names}))}
    return Interactions(
        user_ids=user_ids,
        item_ids=item_ids,
        items=np.array([index[item] for item, _ in events]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        train_end=lengths - 2,
        valid_end=lengths - 1,
        times=np.array([time for _, time in events]) * SECOND,
        created=np.full(len(index), UNKNOWN_TIME),
        tags=Histories.from_lengths(
            np.array([number[name] for names in tags for name in names]), np.array(list(map(len, tags)))
        ),
        brands=numbers(pa.array([item.get("brand", "") for item in items])),
        categories=numbers(pa.array([item.get("category", "") for item in items])),
        texts=pa.array([_text(item, reads) for item in items]),
    )


def _text(item: dict[str, Any], reads: tuple[str, ...]) -> str:
    parts = {**item, "tags": ", ".join(item.get("tags", ()))}
    return ". ".join(filter(None, map(parts.get, reads)))


def _amazon(path: Path, meta: Path, reviews: Path) -> Log:
    """Read the reference sequences, the days of their reviews, and the items, a Python literal a line."""
    with gzip.open(reviews, "rt") as file:
        times = {(r["reviewerID"], r["asin"]): r["unixReviewTime"] for r in map(json.loads, file)}
    with gzip.open(path, "rt") as file:
        lines = [line.split() for line in file]
    sequences = {user: [(item, times[user, item]) for item in items] for user, *items in lines}
    known = {}
    with gzip.open(meta, "rt") as file:
        for item in map(ast.literal_eval, file):
            names = [name for path in item.get("categories", []) for name in path]
            known[item["asin"]] = {**item, "category": names[-1] if names else "", "tags": names}
    return sequences, known


def _movielens(path: Path, movies: Path) -> Log:
    """Read the pairs that have a time, in the order of time and of ratings.dat; genres are tags."""
    pairs = pq.read_table(path).to_pandas().dropna(subset="timestamp")
    pairs = pairs.sort_values(["user_id", "timestamp", "row_in_ratings_dat"])
    sequences: dict[str, list[tuple[str, int]]] = {}
    columns = (pairs[name].tolist() for name in ("user_id", "movie_id", "timestamp"))
    for user, movie, time in zip(*columns, strict=True):
        sequences.setdefault(str(user), []).append((str(movie), int(time)))
    known = {}
    for line in movies.read_text("latin-1").splitlines():
        number, title, genres = line.split("::")
        known[number] = {"title": title, "tags": genres.split("|")}
    return sequences, known

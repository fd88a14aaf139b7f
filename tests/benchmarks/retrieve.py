"""Measure the conventional recommenders on Amazon Beauty: full catalogue, leave-one-out, seen excluded.

    python tests/benchmarks/retrieve.py --models popularity,item_to_item,sasrec

prints one row per model: Recall and NDCG on test, 95 % intervals over users, the published figures, training
and scoring seconds, one seed. `blend` adds both blends of `--blend`'s models, without and with facts of the
request's time, learnt with `--folds` folds. `--sort` adds the time of a plain full sort for all users;
`--catalogue 1000000` only measures time and memory of top-100 over so many generated items; `--users 3000`
takes a sample of users.
`--data` takes another log of the folder that RECLLM_DATA names: `Sports_and_Outdoors.sequences.txt.gz` of
amazon2014, or movielens/ml-1m.interactions.parquet. Of Amazon it reads the reference sequences (one line per
user, items in time order), the reviews (for times) and the items' metadata.
"""

# Smoke run, a few seconds, without any data: python tests/benchmarks/retrieve.py --smoke

import argparse
import dataclasses
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from public_logs import BEAUTY, beside, read

from components.evaluate.comparison import interval, resampled_means
from components.retrieve.blend.config import BLENDS, BlendConfig
from components.retrieve.blend.sales import DAY
from components.retrieve.candidates.cross_fit import CrossFit
from components.retrieve.candidates.generator import CandidateGenerator, RetrievalContext
from components.retrieve.config import CEILINGS, MODELS, RetrieveConfig
from components.retrieve.figures import accuracy, ceilings
from components.retrieve.interactions import UNKNOWN_TIME, Histories, Interactions, Queries
from components.retrieve.model_config import (
    Bert4recConfig,
    BsarecConfig,
    ContentConfig,
    FdsaConfig,
    NextItemConfig,
    S3recConfig,
    SasrecConfig,
    TigerConfig,
    TrainingConfig,
)
from components.retrieve.models import factory as models
from components.retrieve.models.sasrec import Sasrec
from components.retrieve.ranking import RankedLists, Scorer, blocks, ndcg, recall
from components.shared.artifacts import checkpoints
from data_contracts.evaluation import ONLINE

SMOKE = "popularity,item_to_item,directed,transition_graph,content,gru4rec,sasrec,blend"
# Recall@10 and NDCG@10: Zhou et al. 2020 (S3-Rec), Rajput et al. 2023 (TIGER), logs of reimplementations.
PUBLISHED = {
    "gru4rec": (0.0283, 0.0137),
    "bert4rec": (0.0347, 0.0170),
    "fdsa": (0.0407, 0.0208),
    "sasrec": (0.0986, 0.0597),
    "bsarec": (0.1002, 0.0610),
    "sasrec_bce": (0.067, 0.035),
    "s3rec": (0.0647, 0.0327),
    "tiger": (0.0648, 0.0384),
}


def beauty_config(epochs: int, seed: int = 0, prefixes: bool = True) -> RetrieveConfig:
    """The settings that the table is measured with; everything else is the project's default."""
    training = TrainingConfig(
        epochs=epochs, batch_size=64, learning_rate=1.0e-3, patience=0, eval_every=2, schedule="cosine"
    )
    # One negative per position, or one item in three, teaches less per epoch than the whole catalogue.
    thrice = {"epochs": 3 * epochs, "eval_every": 6}
    longer = dataclasses.replace(training, **thrice)
    by_prefix = dataclasses.replace(training, batch_size=256)
    shared = {"dropout": 0.5, "temperature": 0.0, "training": training}
    small = {"dim": 64, "layers": 2, **shared}
    wide = {"dim": 256, "layers": 1, "heads": 4, "prefixes": prefixes, **shared, "training": by_prefix}
    large_batches = dataclasses.replace(
        training, batch_size=512, learning_rate=1.5e-3, eval_every=4, valid_users=4000
    )
    return RetrieveConfig(
        seed=seed,
        sasrec=SasrecConfig(**{**wide, "training": large_batches}),
        sasrec_text=SasrecConfig(**{**wide, "label_smoothing": 0.05, "training": large_batches}),
        bsarec=BsarecConfig(**{**small, "training": by_prefix}),
        sasrec_bce=SasrecConfig(**{**wide, "training": dataclasses.replace(by_prefix, **thrice)}),
        gru4rec=NextItemConfig(dim=128, layers=1, **shared),
        bert4rec=Bert4recConfig(**{**small, "dropout": 0.2, "training": longer}),
        fdsa=FdsaConfig(**small),
        s3rec=S3recConfig(**wide, pretraining=dataclasses.replace(training, epochs=max(1, epochs // 2))),
        tiger=TigerConfig(training=training),
    )


def synthetic(users: int, items: int = 100) -> Interactions:
    """Return users who each walk along a ring of items, one step at a time with few jumps."""
    generator, length = np.random.default_rng(0), 10
    steps = generator.choice([1, 2], size=(users, length), p=[0.9, 0.1])
    paths = (generator.integers(items, size=(users, 1)) + steps.cumsum(1)) % items
    return Interactions(
        user_ids=[f"u{i:06d}" for i in range(users)],
        item_ids=[f"i{i:06d}" for i in range(items)],
        items=paths.ravel(),
        offsets=np.arange(users + 1) * length,
        train_end=np.full(users, length - 2),
        valid_end=np.full(users, length - 1),
        times=np.tile(np.arange(length), users) * DAY,
        created=np.full(items, UNKNOWN_TIME),
        brands=np.arange(items) // 20,
        categories=np.arange(items) // 10,
        tags=Histories.from_lengths(np.arange(items) // 10, np.ones(items, np.int64)),
        texts=pa.array([f"item {i}" for i in range(items)]),
    )


def full_sort(recommender: Scorer, histories: Histories, depth: int) -> np.ndarray:
    """Rank the plain way: score, hide what was seen, sort the whole catalogue."""
    parts = []
    for part in blocks(len(histories), recommender.num_items):
        block = histories.take(part)
        scores = recommender.scores(block).numpy()
        rows, seen = block.flat()
        scores[rows, seen] = -np.inf
        parts.append(np.argsort(-scores, axis=1, kind="stable")[:, :depth])
    return np.concatenate(parts)


def huge(items: int, users: int = 1000) -> None:
    """Print time and peak memory of top-100 over `items` items by an untrained SASRec of dim 64."""
    generator = np.random.default_rng(0)
    histories = Histories.from_lengths(generator.integers(0, items, users * 10), np.full(users, 10))
    recommender = Sasrec(items, SasrecConfig(dim=64)).recommender()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    recommender.rank(histories, 100)
    taken, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{items:,} items: top-100 for {users:,} users in {taken:.1f} s, "
        f"{(after - before) / 1024:.0f} MiB more than the {before / 1024:.0f} MiB with the network"
    )


def figures(ranked: RankedLists, queries: Queries) -> list[str]:
    """Return Recall and NDCG at 5 and 10, then the intervals of those at 10 over users."""
    hits, labels = ranked.hits(queries), queries.labels.lengths
    values = np.stack([recall(hits, labels, 10), ndcg(hits, labels, 10)])
    bounds = [interval(means, 0.95) for means in resampled_means(values, 1000, 0)]
    means = [f"{value:.4f}" for value in accuracy(ranked, queries).values()]
    return means + [f"{bound.low:.4f} to {bound.high:.4f}" for bound in bounds]


def row_of(
    name: str, config: RetrieveConfig, data: Interactions, options: argparse.Namespace, checkpoint_dir: Path
) -> str:
    """Train model `name`, rank for all test users, and return its line of the table."""
    test = data.queries("test")
    recommender, log = models.fit(name, config, data, data.train(), data.queries("valid"), -1, checkpoint_dir)
    trained = time.monotonic()
    ranked = recommender.recommend(test, options.depth)
    scored = time.monotonic()
    reached = figures(ranked, test)
    # Published rows are of all users of Beauty: beside anything else they would say nothing.
    comparable = not options.users and options.data.name == BEAUTY.name
    published = " / ".join(f"{value:.4f}" for value in PUBLISHED.get(name, ()) if comparable)
    cells = [name, *reached, published, log.best_epoch, f"{log.seconds:.0f}", f"{scored - trained:.1f}"]
    if options.sort:
        cells += (
            _sorted_too(recommender, test.histories, ranked) if isinstance(recommender, Scorer) else ["", ""]
        )
    return "| " + " | ".join(map(str, cells)) + " |"


def blend_rows(
    config: RetrieveConfig, data: Interactions, options: argparse.Namespace, checkpoint_dir: Path
) -> Iterator[str]:
    """Learn both blends, and yield their lines of the table, then the recall of their candidates."""
    context = RetrievalContext(config, data, None, checkpoint_dir)
    final, cross_fit = CandidateGenerator(context, np.arange(len(data.user_ids)), -1), CrossFit.of(context)
    started = time.monotonic()
    cross_fit.add_blends(final)
    learnt = time.monotonic()
    valid, test = data.queries("valid"), data.queries("test")
    for name in BLENDS:
        begun = time.monotonic()
        ranked = final.fit(name)[0].recommend(test, options.depth)
        seconds = time.monotonic() - begun
        cells = [name, *figures(ranked, test), "", "", f"{learnt - started:.0f}", f"{seconds:.1f}"]
        cells += ["", ""] * options.sort
        yield "| " + " | ".join(map(str, cells)) + " |"
        found = {"test": ceilings(ranked.hits(test), test.labels.lengths, CEILINGS)}
        on_valid = final.fit(name)[0].recommend(valid, 10)
        if name == config.candidates_from:
            train = cross_fit.queries
            hits = cross_fit.candidates().lists.hits(train)
            found["train"] = ceilings(hits, train.labels.lengths, CEILINGS)
        print(f"{name}: valid {accuracy(on_valid, valid)}, recall of the first N {found}", flush=True)


def _sorted_too(recommender: Scorer, histories: Histories, ranked: RankedLists) -> list[str]:
    started = time.monotonic()
    plain = full_sort(recommender, histories, ranked.items.shape[1])
    same = np.array_equal(np.where(ranked.items < 0, plain, ranked.items), plain)
    return [f"{time.monotonic() - started:.1f}", "equal" if same else "DIFFERENT"]


def main() -> None:
    """Train, rank, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=BEAUTY)
    available = [name for name in MODELS if name not in (ONLINE, BLENDS[1])]
    parser.add_argument("--models", default=",".join(available))
    parser.add_argument("--users", type=int, default=0, help="a seeded sample of users; 0 = all")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of folds and trainings")
    parser.add_argument("--depth", type=int, default=100, help="items of each list")
    parser.add_argument("--sort", action="store_true", help="compare scoring with a full sort")
    parser.add_argument(
        "--catalogue", type=int, default=0, help="only rank over a made-up catalogue of this size"
    )
    parser.add_argument(
        "--windows", action="store_true", help="SASRec learns windows of a history, not every prefix"
    )
    parser.add_argument("--blend", default="sasrec,item_to_item", help="models that the blends combine")
    parser.add_argument("--content", choices=("tags", "text"), default="tags", help="what `content` compares")
    parser.add_argument("--reads", default="title", help="what items' texts hold: title,brand,tags")
    parser.add_argument("--pool", type=int, default=100, help="best items of each that the blends rank")
    parser.add_argument("--folds", type=int, default=2, help="folds of the blends' train labels")
    parser.add_argument("--saved", default="", help="keep checkpoints in this folder, and resume from them")
    parser.add_argument("--learner", choices=("logit", "lightgbm"), default="logit", help="of the blends")
    parser.add_argument("--smoke", action="store_true", help="one epoch on a small generated log")
    options = parser.parse_args()
    if options.smoke:
        options.models, options.users, options.epochs, options.sort = SMOKE, 200, 1, True
        huge(2000, users=100)
    if options.catalogue:
        huge(options.catalogue)
        return
    if options.depth < 10:
        parser.error("--depth must be at least 10: the table has Recall and NDCG at 10")
    if options.epochs < 1:
        parser.error("--epochs must be at least 1")
    if unknown := [name for name in options.models.split(",") if name not in available]:
        parser.error(f"--models: '{unknown[0]}' is none of {', '.join(available)}")
    for file in (options.data, *beside(options.data)):
        if not file.is_file() and not options.smoke:
            parser.error(f"{file} is missing: RECLLM_DATA names the folder of the public datasets")
    reads = tuple(options.reads.split(","))
    data = synthetic(options.users) if options.smoke else read(options.data, options.users, reads)
    blend = BlendConfig(models=tuple(options.blend.split(",")), pool=options.pool, learner=options.learner)
    config = dataclasses.replace(
        beauty_config(options.epochs, options.seed, not options.windows),
        candidates_from="blend",
        blend=blend,
        folds=options.folds,
        content=ContentConfig(by=options.content),
    )
    threads = torch.get_num_threads()
    print(f"{len(data.user_ids):,} users, {data.num_items:,} items, {threads} threads", flush=True)
    headers = [
        "model",
        "R@5",
        "R@10",
        "N@5",
        "N@10",
        "R@10 interval",
        "N@10 interval",
        "published R@10 / N@10",
        "best epoch",
        "train s",
    ]
    headers += [f"top-{options.depth} s"] + ["full sort s", "lists"] * options.sort
    rows = ["| " + " | ".join(headers) + " |", "|---|" + "---:|" * (len(headers) - 1)]
    source = f"{options.data} {options.users} {options.reads}"
    with checkpoints.directory(options.saved, "retrieve", config, also=source) as checkpoint_dir:
        for name in options.models.split(","):
            parts = (config, data, options, checkpoint_dir)
            for line in blend_rows(*parts) if name in BLENDS else [row_of(name, *parts)]:
                rows.append(line)
                print(line, flush=True)  # a model may take many minutes
    print("\n".join(rows))


if __name__ == "__main__":
    main()

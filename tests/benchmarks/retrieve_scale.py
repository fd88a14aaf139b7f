"""Measure retrieval's partition function on a generated log: seconds and memory against the number of users.

    python tests/benchmarks/retrieve_scale.py --users 100000,1000000 --items 200000

fits models without a network, saves what executors get as served folders, loads them in a process of its own
and answers for `--partitions` partitions of users, spread over the log, as the step does. It prints per
number of users the seconds and the peak memory of fitting, the seconds per 100,000 users, the peak memory
beside the loaded item side, and the largest arrays that executors share. The vectors of texts are random:
their size counts, not what they say.
"""

# Smoke run, a few seconds: python tests/benchmarks/retrieve_scale.py --smoke

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from safetensors import safe_open

from components.retrieve.blend.config import BlendConfig
from components.retrieve.blend.sales import DAY
from components.retrieve.candidates.cross_fit import CrossFit
from components.retrieve.candidates.generator import CandidateGenerator, RetrievalContext
from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import UNKNOWN_TIME, Histories, Interactions
from components.retrieve.models import factory
from components.retrieve.partition import PARTITION, Answering
from components.retrieve.segments import Segments
from components.retrieve.served.folder import FINAL, Served, load_with_folds, save_with_folds

LENGTH, WIDTH = 10, 384
"""Items of each user; numbers of a text's vector, as all-MiniLM-L6-v2's."""
MODELS = ("item_to_item", "directed", "transition_graph")


def generated(users: int, items: int) -> Interactions:
    """Return users who go on to neighbours of an item, which is popular by Zipf's law."""
    generator = np.random.default_rng(0)
    start = (items ** generator.random(users)).astype(np.int64) - 1
    steps = generator.integers(1, 50, (users, LENGTH)).cumsum(1)
    paths = ((start[:, None] * 7919) + steps) % items
    return Interactions(
        user_ids=[f"u{i:09d}" for i in range(users)],
        item_ids=[f"i{i:09d}" for i in range(items)],
        items=paths.ravel(),
        offsets=np.arange(users + 1) * LENGTH,
        train_end=np.full(users, LENGTH - 2),
        valid_end=np.full(users, LENGTH - 1),
        times=(generator.integers(0, 300, (users, 1)) + np.arange(LENGTH)).ravel() * DAY,
        created=np.full(items, UNKNOWN_TIME),
        brands=np.arange(items) % 5000,
        categories=np.arange(items) % 300,
        tags=Histories.from_lengths(np.arange(items) % 300, np.ones(items, np.int64)),
        texts=pa.array([f"text {i}" for i in range(items)]),
    )


def random_vectors(texts: Sequence[str], *_: object) -> np.ndarray:
    """Return unit vectors in place of sentence embeddings, which take hours for so many items."""
    vectors = np.random.default_rng(1).standard_normal((len(texts), WIDTH), np.float32)
    vectors /= np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]  # no copy of them all
    return vectors


def prepare(data: Interactions, folder: Path, prompts: int) -> float:
    """Fit and save the retrievers of `data` below `folder`; return the seconds that this takes."""
    blend = BlendConfig(models=MODELS, prompts=prompts)
    config = RetrieveConfig(models=("popularity",), candidates_from="blend", blend=blend)
    factory.encode = random_vectors  # type: ignore[assignment]
    started = time.monotonic()
    context = RetrievalContext(config, data, None, folder)
    final, cross_fit = CandidateGenerator(context, np.arange(len(data.user_ids)), -1), CrossFit.of(context)
    cross_fit.add_blends(final)
    served = Served(final.retriever(), pa.table({"item_id": data.item_ids}), Segments(pd.DataFrame()))
    save_with_folds(served, cross_fit.retrievers(), data, folder)
    return time.monotonic() - started


def measure(
    folder: Path, data: Interactions, partitions: int, size: int, found: multiprocessing.Queue
) -> None:
    """Put (seconds per 100,000 users, MiB of the item side, MiB more at the peak) into `found`."""
    torch.set_num_threads(1)
    final, folds = load_with_folds(folder)
    item_ids = final.items["item_id"].combine_chunks()
    answering = Answering(final.retriever, folds, item_ids, ("blend", "blend_with_time"))
    parts = list(data.parts(size))
    chosen = [parts[i] for i in np.linspace(0, len(parts) - 1, min(partitions, len(parts))).astype(int)]
    answering.answers(chosen[0])  # pages of the item side are mapped when they are first read
    before = resident("VmRSS")
    forget_peak()  # loading has one of its own
    started = time.monotonic()
    users = 0
    for part in chosen:
        answering.answers(part)
        users += len(part.user_ids)
    seconds = (time.monotonic() - started) / users * 100_000
    found.put((seconds, before, resident("VmHWM") - before))


def forget_peak() -> None:
    """Let this process's peak of memory start anew; on Linux."""
    Path("/proc/self/clear_refs").write_text("5")


def resident(field: str) -> float:
    """Return this process's resident memory in MiB, now (VmRSS) or at its peak (VmHWM); on Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def largest(folder: Path, count: int) -> list[str]:
    """Return the `count` largest arrays of the retriever of all users, with their size."""
    sizes = {}
    for file in folder.glob(f"{FINAL}/*.safetensors"):
        with safe_open(file, "np") as opened:
            sizes |= {name: opened.get_tensor(name).nbytes for name in opened.keys()}  # noqa: SIM118
    best = sorted(sizes, key=lambda name: -sizes[name])[:count]
    return [f"{name} {sizes[name] / 2**20:,.0f} MiB" for name in best]


def main() -> None:
    """Generate, fit, answer, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--users", default="100000,1000000", help="numbers of users, each measured")
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--partitions", type=int, default=2, help="partitions that are answered")
    parser.add_argument("--size", type=int, default=PARTITION, help="users of a partition")
    parser.add_argument("--prompts", type=int, default=2000, help="train prompts that the blends learn from")
    parser.add_argument("--smoke", action="store_true", help="a few hundred users")
    options = parser.parse_args()
    if options.smoke:
        small = {"users": "300,600", "items": 500, "size": 100, "prompts": 100}
        options = argparse.Namespace(**vars(options) | small)
    titles = ("users", "fit s", "fit MiB", "s per 100,000 users", "item side MiB", "MiB more at the peak")
    print(f"| {' | '.join(titles)} | largest arrays |\n{'|---:' * len(titles)}|---|")
    for users in map(int, options.users.split(",")):
        data = generated(users, options.items)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            forget_peak()
            fit = prepare(data, folder, options.prompts)
            peak = resident("VmHWM")
            queue: multiprocessing.Queue = multiprocessing.get_context("spawn").Queue()
            sizes = (options.partitions, options.size, queue)
            process = multiprocessing.get_context("spawn").Process(
                target=measure, args=(folder, data, *sizes)
            )
            process.start()
            seconds, side, more = queue.get()
            process.join()
            names = ", ".join(largest(folder, 3))
        cells = f"{users:,} | {fit:.0f} | {peak:,.0f} | {seconds:.0f} | {side:,.0f} | {more:,.0f}"
        print(f"| {cells} | {names} |", flush=True)


if __name__ == "__main__":
    main()

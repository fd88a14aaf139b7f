"""Rows that break the contract on purpose, to try the quarantine."""

import numpy as np

from pipelines.datasets.synthetic.config import SampleConfig

KINDS = (
    "null user",
    "null item",
    "unknown item",
    "unknown action",
    "negative dwell",
    "future",
    "pre-epoch",
    "twice",
)
CENTURY_US = 100 * 365 * 86_400_000_000


def add_dirt(
    events: dict[str, np.ndarray], config: SampleConfig, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return `events` and copies of random ones, broken in one of KINDS: `dirty_share` of all.

    Index -1 means null; an index one past the end, an unknown item or action.
    """
    clean = len(events["user"])
    count = round(clean * config.dirty_share / (1 - config.dirty_share))
    chosen = rng.integers(0, clean, count)
    copies = {name: values[chosen] for name, values in events.items()}
    kind = rng.integers(0, len(KINDS), count)
    copies["user"] = np.where(kind == 0, -1, copies["user"])
    copies["item"] = np.where(kind == 1, -1, np.where(kind == 2, config.items, copies["item"]))
    copies["action"] = np.where(kind == 3, 7, copies["action"])
    copies["dwell"] = np.where(kind == 4, -1.0, copies["dwell"])
    shift = np.where(kind == 5, CENTURY_US, np.where(kind == 6, -CENTURY_US, 0))
    copies["time"] = copies["time"] + shift
    return {name: np.concatenate([values, copies[name]]) for name, values in events.items()}

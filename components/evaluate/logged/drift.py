"""What the training data were like, and how far they are from the champion's training data."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.evaluate.config import DriftConfig
from components.evaluate.tables import dataset
from components.shared.logs import logger
from data_contracts.evaluation import DATA_SUMMARY, Alarm, DataSummary, Drift

log = logger("evaluate")

HEAD = 500
"""Items whose shares of the interactions are kept; the others count together."""

_REMEDIES = {
    "volume": "is the log whole, and the window the same? a model of another amount of data is no fair match",
    "actions": "has the app, its logging or sequences.sources changed? labels weigh actions",
    "popularity": "other items are popular now: retrain retrieval, and distrust the champion's figures",
    "new items": "items without interactions are found by their content alone: look at the slice new items",
    "history length": "prompts show other histories than the champion learnt from: see prompts.max_history",
}


def summarise(sequences: str, catalogue: str, quarantine: str) -> DataSummary:
    """Return the summary of the training data; arguments are folders or URIs of tables."""
    actions: Counter[str] = Counter()
    lengths: Counter[str] = Counter()
    users = events = 0
    for batch in dataset(sequences).to_batches(columns=["train_end", "events"]):
        users += batch.num_rows
        flat = batch["events"].flatten()
        events += len(flat)
        for found in pc.value_counts(flat.field("action")).to_pylist():
            actions[found["values"]] += found["counts"]
        buckets = np.ceil(np.log2(np.maximum(batch["train_end"].to_numpy(), 1))).astype(int)
        for bucket, count in zip(*np.unique(buckets, return_counts=True), strict=True):
            lengths[f"up to {2**bucket}"] += int(count)
    items = dataset(catalogue).to_table(columns=["item_id", "train_count"])
    counts = dict(zip(items["item_id"].to_pylist(), items["train_count"].to_pylist(), strict=True))
    head = set(sorted(counts, key=lambda item: (-counts[item], item))[:HEAD])
    refused: Counter[str] = Counter()
    for batch in dataset(quarantine).to_batches(columns=["table", "reason"]):
        counted = pa.table(batch).group_by(["table", "reason"]).aggregate([([], "count_all")])
        for row in counted.to_pylist():
            refused[f"{row['table']}: {row['reason']}"] += row["count_all"]
    return DataSummary(
        users=users,
        items=len(counts),
        events=events,
        interactions=sum(counts.values()),
        actions=_shares(actions),
        popular={item: share for item, share in _shares(counts).items() if item in head},
        new_item_share=sum(not count for count in counts.values()) / len(counts),
        history_lengths=_shares(lengths),
        refused=dict(sorted(refused.items())),
    )


def read_summary(champion: Path | None) -> DataSummary | None:
    """Return the summary that lies with the champion; None without one of this form."""
    file = champion / DATA_SUMMARY if champion else None
    if file is None or not file.is_file():
        return None
    try:
        return DataSummary.read(file)
    except ValueError as error:  # the champion may be of an older version of the project
        log.warning("no drift: the champion's summary of its data has another form (%s)", error)
        return None


def drift(config: DriftConfig, now: DataSummary, then: DataSummary) -> list[Drift]:
    """Return how far `now` is from `then`, each measure with its bound."""
    growth = now.events / max(then.events, 1)
    return [
        Drift(
            name="volume",
            value=max(growth, 1 / growth) if growth else float(then.events),
            bound=config.max_volume_factor,
            then=f"{then.events:,} events",
            now=f"{now.events:,} events",
        ),
        _distance("actions", config.max_actions, now.actions, then.actions),
        _popularity(config.max_popularity, now, then),
        Drift(
            name="new items",
            value=abs(now.new_item_share - then.new_item_share),
            bound=config.max_new_items,
            then=f"{then.new_item_share:.1%} without interactions",
            now=f"{now.new_item_share:.1%} without interactions",
        ),
        _distance("history length", config.max_history_length, now.history_lengths, then.history_lengths),
    ]


def alarms(found: list[Drift]) -> list[Alarm]:
    """Return an alarm for each measure beyond its bound."""
    return [
        Alarm(
            name=f"drift of {one.name}",
            model="the log",
            value=one.value,
            bound=one.bound,
            remedy=_REMEDIES[one.name],
        )
        for one in found
        if one.value > one.bound
    ]


def _distance(name: str, bound: float, now: dict[str, float], then: dict[str, float]) -> Drift:
    """Return the total variation distance of two distributions."""
    apart = sum(abs(now.get(key, 0.0) - then.get(key, 0.0)) for key in {*now, *then}) / 2
    return Drift(name=name, value=apart, bound=bound, then=_first(then), now=_first(now))


def _popularity(bound: float, now: DataSummary, then: DataSummary) -> Drift:
    """Return the share of the popular items' interactions that moved, less what chance moves.

    Of the interactions of all items, the `HEAD` of a large catalogue may hold a few per cent: a share of
    these could never reach a bound. An item that only one side keeps among its `HEAD` counts on the other as
    the smallest share kept there. Chance is the expected distance of two samples of one log.
    """
    names = sorted({*now.popular, *then.popular})
    sides = []
    for one, other in ((now.popular, then.popular), (then.popular, now.popular)):
        least = min(one.values()) if len(one) == HEAD else 0.0
        sides.append(np.array([one.get(key, min(least, other.get(key, 0.0))) for key in names]))
    heads = [sum(now.popular.values()), sum(then.popular.values())]
    mean = (sides[0] + sides[1]) / 2
    variance = mean * (1 - mean) * (1 / max(now.interactions, 1) + 1 / max(then.interactions, 1))
    chance = np.sqrt(2 / np.pi * variance).sum() / 2
    apart = (np.abs(sides[0] - sides[1]).sum() + abs(heads[0] - heads[1])) / 2
    return Drift(
        name="popularity",
        value=float(max(0.0, apart - chance) / max(*heads, np.finfo(float).tiny)),
        bound=bound,
        then=_first(then.popular),
        now=_first(now.popular),
    )


def _first(shares: dict[str, float]) -> str:
    first = sorted(shares.items(), key=lambda pair: -pair[1])[:3]
    return ", ".join(f"{name} {share:.1%}" for name, share in first)


def _shares(counts: dict[str, int] | Counter[str]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in sorted(counts.items())} if total else {}

"""Drift between simulated logs: silent for another seed, an alarm for each thing that changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.evaluate.config import DriftConfig
from components.evaluate.logged.drift import alarms, drift, summarise
from data_contracts.evaluation import DataSummary
from data_contracts.tables import QUARANTINE

ACTIONS = ("view", "click", "like", "save")
ITEMS = 900


def simulated(
    folder: Path,
    seed: int,
    *,
    users: int = 2000,
    length: float = 12.0,
    likes: float = 0.1,
    new_items: int = 100,
    hits: int = 0,
    repeats: int = 1,
) -> DataSummary:
    """Return the summary of a log's tables.

    `hits` is the place in the catalogue of the most popular item, `repeats` the events of each interaction.
    """
    generator = np.random.default_rng(seed)
    lengths = 2 + generator.poisson(generator.gamma(4.0, (length - 2) / 4, users))
    shares = np.roll(np.arange(1, ITEMS + 1) ** -0.8, hits)
    counts = generator.multinomial(lengths.sum(), shares / shares.sum())
    actions = generator.choice(ACTIONS, repeats * lengths.sum(), p=(0.7 - likes, 0.2, likes, 0.1))
    offsets = pa.array(np.concatenate(([0], repeats * lengths.cumsum())), pa.int32())
    events = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays([pa.array(actions)], ["action"]))
    number = ITEMS + new_items
    tables = {
        "sequences": pa.table({"train_end": lengths, "events": events}),
        "catalogue": pa.table(
            {
                "item_id": [f"i{n}" for n in range(number)],
                "train_count": np.concatenate((counts, np.zeros(new_items, int))),
            }
        ),
        "quarantine": QUARANTINE.empty_table(),
    }
    folder.mkdir()
    for name, table in tables.items():
        (folder / name).mkdir()
        pq.write_table(table, folder / name / "part-0.parquet")
    return summarise(*(str(folder / name) for name in tables))


def test_another_seed_is_silent(tmp_path: Path) -> None:
    then = simulated(tmp_path / "then", 0)
    for seed in range(1, 11):
        now = simulated(tmp_path / f"now-{seed}", seed)
        assert alarms(drift(DriftConfig(), now, then)) == []


def test_several_events_of_an_interaction_leave_its_chance_as_it_is(tmp_path: Path) -> None:
    then = simulated(tmp_path / "then", 0, repeats=3)
    for seed in range(1, 6):
        measures = drift(DriftConfig(), simulated(tmp_path / f"now-{seed}", seed, repeats=3), then)
        (popularity,) = (one.value for one in measures if one.name == "popularity")
        assert popularity < 0.005


@pytest.mark.parametrize(
    ("change", "name"),
    [
        pytest.param({"users": 900}, "volume", id="half of the log is missing"),
        pytest.param({"users": 4500}, "volume", id="far more users"),
        pytest.param({"likes": 0.25}, "actions", id="likes where views were"),
        pytest.param({"hits": 300}, "popularity", id="other items are the hits"),
        pytest.param({"new_items": 500}, "new items", id="a third of the catalogue is new"),
        pytest.param({"length": 7.0, "users": 3400}, "history length", id="more users of shorter histories"),
        pytest.param({"length": 20.0, "users": 1200}, "history length", id="fewer users of longer histories"),
    ],
)
def test_what_changed_alarms_alone(change: dict[str, Any], name: str, tmp_path: Path) -> None:
    then, now = simulated(tmp_path / "then", 0), simulated(tmp_path / "now", 1, **change)
    assert [alarm.name for alarm in alarms(drift(DriftConfig(), now, then))] == [f"drift of {name}"]

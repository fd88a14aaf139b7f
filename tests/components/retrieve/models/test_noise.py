"""Of histories without any order or taste, no recommender learns more than chance."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.etl.config import SequencesConfig
from components.etl.sequences.build import PLACED_EVENTS, build
from components.etl.sources.readers import PLACE
from components.retrieve.blend.config import BLENDS, BlendConfig
from components.retrieve.config import MODELS, RetrieveConfig
from components.retrieve.job import run
from components.retrieve.model_config import (
    Bert4recConfig,
    BsarecConfig,
    FdsaConfig,
    NextItemConfig,
    S3recConfig,
    SasrecConfig,
    SemanticIdConfig,
    TigerConfig,
    TrainingConfig,
)
from components.retrieve.models import factory
from components.retrieve.report import accuracy
from components.retrieve.tables import load
from tests.components.retrieve.conftest import START

USERS, ITEMS, LENGTH = 500, 100, 8
TRAINING = TrainingConfig(epochs=2, batch_size=64)
NETWORK = {"dim": 16, "layers": 1, "training": TRAINING}
CONFIG = RetrieveConfig(
    sasrec=SasrecConfig(**NETWORK),
    sasrec_text=SasrecConfig(**NETWORK),
    sasrec_bce=SasrecConfig(**NETWORK),
    bsarec=BsarecConfig(**NETWORK),
    gru4rec=NextItemConfig(**NETWORK),
    bert4rec=Bert4recConfig(**NETWORK),
    fdsa=FdsaConfig(**NETWORK),
    s3rec=S3recConfig(**NETWORK, pretraining=TrainingConfig(epochs=1)),
    tiger=TigerConfig(**NETWORK, ids=SemanticIdConfig(levels=2, codes=8, epochs=3)),
)


def sequences(ordinal: bool) -> pa.Table:
    """Return users' random items, all of one moment; their order is `ordinal`, or else by lot.

    The log itself is sorted by item, which tells nothing but what an item's id tells.
    """
    generator = np.random.default_rng(3)
    rows = [
        {"user_id": f"u{user}", "item_id": f"i{item:03d}", "ordinal": place if ordinal else None}
        for user in range(USERS)
        for place, item in enumerate(generator.permutation(ITEMS)[:LENGTH])
    ]
    rows.sort(key=lambda row: (row["user_id"], row["item_id"]))
    same = {"action": "view", "timestamp": START, "dwell_seconds": None}
    events = [{**row, **same, PLACE: number} for number, row in enumerate(rows)]
    return build(pa.Table.from_pylist(events, schema=PLACED_EVENTS), SequencesConfig()).sequences


@pytest.fixture
def noise(request, write_tables) -> dict[str, Path]:
    """Tables of `sequences`, in which tags and brands mean nothing, too."""
    generator = np.random.default_rng(4)
    ids = [f"i{item:03d}" for item in range(ITEMS)]
    found = sequences(request.param)
    items = dict(zip(found["user_id"].to_pylist(), found["item_ids"].to_pylist(), strict=True))
    tags = {item: [f"tag {generator.integers(9)}"] for item in ids}
    inputs = write_tables(items, ids, tags=tags, brands={item: f"b{generator.integers(5)}" for item in ids})
    pq.write_table(found, inputs["sequences"] / "part-0.parquet")
    return inputs


def check_is_chance(recall_at_10: float) -> None:
    chance = 10 / (ITEMS - LENGTH + 1)
    assert abs(recall_at_10 - chance) < 4 * np.sqrt(chance * (1 - chance) / USERS)


ORDERS = pytest.mark.parametrize("noise", [True, False], ids=["ordinal", "no order"], indirect=True)


@ORDERS
@pytest.mark.parametrize("name", [name for name in MODELS if name not in (*BLENDS, "online")])
def test_pure_noise_scores_chance(name, noise, tmp_path) -> None:
    data = load(noise["sequences"], noise["catalogue"])
    model, _ = factory.fit(name, CONFIG, data, data.train(), data.queries("valid"), -1, tmp_path)
    test = data.queries("test")
    check_is_chance(accuracy(model.recommend(test, 10), test)["recall@10"])


@ORDERS
def test_blends_of_pure_noise_score_chance(noise, outputs, monkeypatch) -> None:
    vectors = np.random.default_rng(5).normal(size=(ITEMS, 8)).astype(np.float32)
    monkeypatch.setattr(factory, "encode", lambda texts, *_: vectors[: len(texts)])
    config = dataclasses.replace(
        CONFIG,
        models=("popularity",),
        candidates_from="blend",
        blend=BlendConfig(models=("item_to_item", "popularity")),
    )
    report = run(config, **noise, **outputs)
    for name in BLENDS:
        check_is_chance(report.models[name]["test"]["recall@10"])

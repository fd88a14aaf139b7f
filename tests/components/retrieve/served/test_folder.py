"""What is saved answers as what was trained, without the training data."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from components.retrieve.blend.config import BlendConfig
from components.retrieve.config import BLENDABLE, RetrieveConfig
from components.retrieve.interactions import NO_SEGMENT, Histories, Queries
from components.retrieve.job import run
from components.retrieve.model_config import (
    Bert4recConfig,
    BsarecConfig,
    ContentConfig,
    FdsaConfig,
    NextItemConfig,
    S3recConfig,
    SasrecConfig,
    SemanticIdConfig,
    TigerConfig,
    TrainingConfig,
)
from components.retrieve.served.folder import load
from components.retrieve.tables import load as load_tables
from components.shared.errors import DataError

pytestmark = pytest.mark.usefixtures("random_vectors")

TRAINING = TrainingConfig(epochs=1)
SMALL = {"dim": 16, "max_length": 8, "training": TRAINING}
CONFIG = RetrieveConfig(
    models=("popularity",),
    candidates_from="blend",
    num_candidates=5,
    ranking_depth=12,
    sasrec=SasrecConfig(heads=1, layers=1, **SMALL),
    sasrec_text=SasrecConfig(heads=1, layers=1, **SMALL),
    sasrec_bce=SasrecConfig(heads=1, layers=1, **SMALL),
    gru4rec=NextItemConfig(**SMALL),
    bert4rec=Bert4recConfig(heads=1, layers=1, **SMALL),
    fdsa=FdsaConfig(heads=1, layers=1, **SMALL),
    bsarec=BsarecConfig(heads=1, layers=1, **SMALL),
    s3rec=S3recConfig(heads=1, layers=1, **SMALL, pretraining=TRAINING),
    tiger=TigerConfig(**SMALL, heads=1, layers=1, ids=SemanticIdConfig(epochs=2, hidden=(16,))),
    blend=BlendConfig(models=("item_to_item", "sasrec"), pool=20),
)
SOURCES = {
    "a blend": {},
    "a blend of all models": {
        "blend": BlendConfig(models=BLENDABLE, pool=20),
        "content": ContentConfig(by="text"),
    },
    "a blend with time": {"candidates_from": "blend_with_time"},
    "a blend with trees": {"blend": dataclasses.replace(CONFIG.blend, learner="lightgbm")},
    "one model": {"candidates_from": "directed"},
    "a network": {"candidates_from": "tiger"},
    "a fusion, with slots for new items": {"candidates_from": "item_to_item+sasrec", "new_item_slots": 2},
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_loaded_folder_answers_as_the_step_did(write_tables, ring, outputs, tmp_path, source) -> None:
    catalogue = sorted({"new", *(item for items in ring.values() for item in items)})
    tags = {item: [f"tag{item[-1]}"] for item in catalogue}
    people = [{"user_id": user, "gender": "fm"[number % 2]} for number, user in enumerate(ring)]
    ends = {"u0000": (0, 1)}  # asked for validation before it did anything
    inputs = write_tables(ring, catalogue, tags=tags, profiles=people, ends=ends, brands={"i0001": "acme"})
    run(dataclasses.replace(CONFIG, **SOURCES[source]), **inputs, **outputs)
    data, rows = load_tables(inputs["sequences"], inputs["catalogue"]), pq.read_table(outputs["candidates"])
    moved = tmp_path / "elsewhere"
    shutil.move(outputs["served"], moved)
    shutil.rmtree(inputs["sequences"].parent)
    served = load(moved)
    assert served.items["item_id"].to_pylist() == data.item_ids
    for split in ("valid", "test"):
        queries = data.queries(split)
        genders = [people[user]["gender"] for user in queries.users]
        segments = served.segments.numbers(pd.DataFrame({"gender": genders}))
        queries = dataclasses.replace(queries, segments=segments)
        found = served.retriever.candidates(queries).lists
        written = [row for row in rows.to_pylist() if row["split"] == split]
        assert [row["user_id"] for row in written] == [data.user_ids[user] for user in queries.users]
        for row, items, scores in zip(written, found.items[:, :5], found.scores[:, :5], strict=True):
            assert [data.item_ids[item] for item in items if item >= 0] == row["item_ids"]
            assert scores[items >= 0].tolist() == row["scores"]


def test_what_is_no_served_folder_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="not a served folder"):
        load(tmp_path)


def test_lists_that_were_shown_are_left_out(write_tables, ring, outputs) -> None:
    shown = [(user, 5.0, ["i0001", "i0002"]) for user in ring]
    for source, left in (("online", "popularity"), ("online+directed", "directed")):
        run(
            dataclasses.replace(CONFIG, candidates_from=source),
            **write_tables(ring, shown=shown, name=source),
            **outputs,
        )
        served = load(outputs["served"])
        assert served.retriever.config.candidates_from == left
        nothing = Histories.from_lengths(np.zeros(0, np.int64), np.zeros(2, np.int64))
        asked = Queries.of_requests(nothing, np.zeros(2, np.int64), np.array([NO_SEGMENT, 9]))
        assert (served.retriever.candidates(asked).lists.items[:, :5] >= 0).all()

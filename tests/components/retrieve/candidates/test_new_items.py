import dataclasses

import pyarrow.parquet as pq
import pytest

from components.retrieve.config import RetrieveConfig
from components.retrieve.job import run
from components.retrieve.model_config import ContentConfig

CONFIG = RetrieveConfig(
    models=("popularity",),
    candidates_from="item_to_item",
    num_candidates=5,
    new_item_slots=2,
    content=ContentConfig(last=1),
)


def candidates(outputs) -> list[dict]:
    return pq.read_table(outputs["candidates"]).to_pylist()


def test_the_last_places_go_to_the_nearest_new_items(write_tables, ring, outputs) -> None:
    catalogue = sorted({"new1", "new2", "new3", *(i for items in ring.values() for i in items)})
    tags = {item: [f"tag{item}", "all"] for item in catalogue}
    tags |= {"new1": ["odd"], "new2": ["all"], "new3": ["tagi0010"]}
    inputs = write_tables(ring, catalogue, tags=tags)
    report = run(CONFIG, **inputs, **outputs)
    with_slots = {(r["user_id"], r["split"]): r for r in candidates(outputs)}
    run(dataclasses.replace(CONFIG, new_item_slots=0), **inputs, **outputs)
    for plain in candidates(outputs):
        row = with_slots[plain["user_id"], plain["split"]]
        assert row["item_ids"][:3] == plain["item_ids"][:3]
        assert row["scores"] == sorted(row["scores"], reverse=True)
        if row["split"] != "train":  # a fold knows fewer items, so more are new to it
            latest = ring[row["user_id"]][row["position"] - 1]
            fourth = "new3" if latest == "i0010" else plain["item_ids"][3]  # "new1" is near to nothing
            assert row["item_ids"][3:] == [fourth, "new2"]
    assert report.splits["test"].new_items >= len(ring)


def test_nothing_is_new_before_it_was_created(write_tables, ring, outputs) -> None:
    """Item i of a user comes on day i, so "late" exists for no question, "early" for all."""
    catalogue = sorted({"early", "late", *(i for items in ring.values() for i in items)})
    tags = {item: ["all"] for item in catalogue}
    created = {"early": 0, "late": 99}
    run(CONFIG, **write_tables(ring, catalogue, tags=tags, created=created), **outputs)
    judged = [row for row in candidates(outputs) if row["split"] != "train"]
    assert all("early" in row["item_ids"] and "late" not in row["item_ids"] for row in judged)
    assert all(len(row["item_ids"]) == 5 for row in judged)


@pytest.mark.parametrize("slots", [1, 4])
def test_without_new_items_nothing_changes(write_tables, ring, outputs, slots) -> None:
    inputs = write_tables(ring)
    run(dataclasses.replace(CONFIG, new_item_slots=slots), **inputs, **outputs)
    judged = [row for row in candidates(outputs) if row["split"] != "train"]
    run(dataclasses.replace(CONFIG, new_item_slots=0), **inputs, **outputs)
    assert [row for row in candidates(outputs) if row["split"] != "train"] == judged

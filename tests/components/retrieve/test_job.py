import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from kfp.dsl import HTML, Dataset

from components.retrieve import job
from components.retrieve.component import retrieve
from components.retrieve.config import RetrieveConfig
from components.retrieve.job import run
from components.retrieve.model_config import (
    ContentConfig,
    SasrecConfig,
    SemanticIdConfig,
    TigerConfig,
    TrainingConfig,
)
from components.retrieve.models.factory import user_folds
from components.retrieve.networks import training
from components.shared.artifacts import fingerprint
from components.shared.config import parse, to_parameter
from components.shared.errors import ConfigError, DataError
from components.shared.labels import LabelSettings
from components.shared.spark.config import SparkConfig
from data_contracts.tables import CANDIDATES, RANKINGS
from tests.components.shared.artifacts.s3_server import serving

CONFIG = RetrieveConfig(
    num_candidates=5,
    ranking_depth=12,
    sasrec=SasrecConfig(
        dim=16, layers=1, heads=1, max_length=8, training=TrainingConfig(epochs=3, batch_size=32)
    ),
)
COUNTING = dataclasses.replace(CONFIG, models=("popularity", "item_to_item"), candidates_from="item_to_item")

SMALL_IDS = SemanticIdConfig(levels=2, codes=8, epochs=3)
SMALL_TIGER = TigerConfig(
    dim=16, layers=1, heads=2, ids=SMALL_IDS, training=TrainingConfig(epochs=2, batch_size=32)
)
SOURCES: dict[str, dict] = {
    "popularity": {"candidates_from": "popularity"},
    "item_to_item": {"candidates_from": "item_to_item"},
    "sasrec": {"candidates_from": "sasrec"},
    "tags": {"candidates_from": "content"},
    "text": {"candidates_from": "content", "content": ContentConfig(by="text")},
    "tiger": {"candidates_from": "tiger", "tiger": SMALL_TIGER},
    "new items": {"candidates_from": "item_to_item", "new_item_slots": 2},
    "online": {"candidates_from": "online+item_to_item"},
}
OF_ITEMS: dict = {
    "tags": {f"i{n:04d}": [f"tag{n % 7}"] for n in range(60)},
    "shown": [(f"u{n:04d}", n % 9, [f"i{(3 * n) % 60:04d}", f"i{(5 * n) % 60:04d}"]) for n in range(80)],
}


def rows(folder) -> list[dict]:
    return pq.read_table(folder).to_pylist()


def by_prompt(table: list[dict]) -> dict:
    return {(row["user_id"], row["split"]): row for row in table}


def test_every_prompt_gets_candidates_under_the_contract(write_tables, ring, outputs) -> None:
    report = run(CONFIG, **write_tables(ring), **outputs)
    table = pq.read_table(outputs["candidates"])
    assert table.schema.equals(CANDIDATES)
    found = by_prompt(table.to_pylist())
    folds = dict(zip(sorted(ring), user_folds(sorted(ring), 2, 0).tolist(), strict=True))
    assert set(folds.values()) == {0, 1}
    for user, items in ring.items():
        n = len(items)
        for split, position in (("train", n - 3), ("valid", n - 2), ("test", n - 1)):
            row = found.pop((user, split))
            assert row["position"] == position
            assert row["fold"] == (folds[user] if split == "train" else -1)
            assert len(set(row["item_ids"])) == 5
            assert not set(row["item_ids"]) & set(items[:position])
            assert row["scores"] == sorted(row["scores"], reverse=True)
    assert not found
    assert {s: f.users for s, f in report.splits.items()} == {"train": 80, "valid": 80, "test": 80}


def test_every_model_ranks_valid_and_test(write_tables, ring, outputs) -> None:
    report = run(CONFIG, **write_tables(ring), **outputs)
    table = pq.read_table(outputs["rankings"])
    assert table.schema.equals(RANKINGS)
    ranked = table.to_pylist()
    assert len(ranked) == 3 * 2 * 80
    for model in CONFIG.models:
        mine = [row for row in ranked if row["model"] == model and row["split"] == "test"]
        at_10 = [ring[row["user_id"]][-1] in row["item_ids"][:10] for row in mine]
        assert report.models[model]["test"]["recall@10"] == pytest.approx(sum(at_10) / 80)
        assert all(not set(row["item_ids"]) & set(ring[row["user_id"]][:-1]) for row in mine)
    candidates = by_prompt(rows(outputs["candidates"]))
    for row in ranked:
        if row["model"] == "sasrec":
            assert candidates[row["user_id"], row["split"]]["item_ids"] == row["item_ids"][:5]


def test_the_ceiling_is_the_share_of_labels_among_the_candidates(write_tables, ring, outputs) -> None:
    config = dataclasses.replace(COUNTING, num_candidates=10)
    report = run(config, **write_tables(ring), **outputs)
    for split in ("train", "valid", "test"):
        asked = [row for row in rows(outputs["candidates"]) if row["split"] == split]
        inside = [ring[row["user_id"]][row["position"]] in row["item_ids"] for row in asked]
        assert report.splits[split].ceilings[10] == pytest.approx(sum(inside) / 80)


@pytest.mark.parametrize("source", SOURCES)
def test_a_train_prompt_owes_nothing_to_its_users_labels(write_tables, ring, outputs, source) -> None:
    """Change what a user does from the train label on: the candidates of this train prompt stay."""
    config = dataclasses.replace(CONFIG, models=("popularity",), **SOURCES[source])
    run(config, **write_tables(ring, **OF_ITEMS), **outputs)
    before = by_prompt(rows(outputs["candidates"]))["u0007", "train"]
    changed = dict(ring)
    unseen = sorted({i for items in ring.values() for i in items} - set(ring["u0007"]))
    changed["u0007"] = [*ring["u0007"][:-3], *unseen[:3]]
    run(config, **write_tables(changed, name="changed", **OF_ITEMS), **outputs)
    assert by_prompt(rows(outputs["candidates"]))["u0007", "train"] == before


@pytest.mark.parametrize("source", SOURCES)
def test_no_model_owes_anything_to_test_labels(write_tables, ring, outputs, source) -> None:
    config = dataclasses.replace(CONFIG, models=("popularity",), **SOURCES[source])
    catalogue = sorted({i for items in ring.values() for i in items})
    run(config, **write_tables(ring, catalogue, **OF_ITEMS), **outputs)
    before = rows(outputs["candidates"])
    changed = {}
    for user, items in ring.items():
        other = next(i for i in reversed(catalogue) if i not in items)
        changed[user] = [*items[:-1], other]
    run(config, **write_tables(changed, catalogue, name="changed", **OF_ITEMS), **outputs)
    assert rows(outputs["candidates"]) == before


def test_the_same_input_gives_the_same_bytes(write_tables, ring, outputs) -> None:
    written = []
    for name in ("one", "two"):
        run(CONFIG, **write_tables(ring, name=name), **outputs)
        files = [*outputs["candidates"].iterdir(), *outputs["rankings"].iterdir()]
        written.append([file.read_bytes() for file in sorted(files)])
    assert written[0] == written[1]


def test_a_blend_fuses_the_reciprocal_ranks(write_tables, ring, outputs) -> None:
    sources = {"models": ("sasrec", "popularity"), "candidates_from": "sasrec+popularity"}
    config = dataclasses.replace(CONFIG, **sources, ranking_depth=100)
    run(config, **write_tables(ring), **outputs)
    gains: dict = {}
    for row in rows(outputs["rankings"]):
        mine = gains.setdefault((row["user_id"], row["split"]), {})
        for rank, item in enumerate(row["item_ids"], 1):
            mine[item] = mine.get(item, 0.0) + 1 / (60 + rank)
    for prompt, row in by_prompt(rows(outputs["candidates"])).items():
        if prompt[1] != "train":
            expected = sorted(gains[prompt], key=lambda item: (-round(gains[prompt][item], 12), item))
            assert row["item_ids"] == expected[:5]


def test_users_of_few_items(write_tables, outputs) -> None:
    """One train item: no train prompt, still valid and test. No train item: popularity answers."""
    sequences = {"few": ["a", "b", "c"], "many": ["a", "b", "c", "d", "e"], "new": ["a", "b"], "one": ["c"]}
    ends = {"few": (1, 2), "many": (3, 4), "new": (0, 1), "one": (0, 0)}
    config = dataclasses.replace(COUNTING, num_candidates=3)
    report = run(config, **write_tables(sequences, ends=ends), **outputs)
    found = by_prompt(rows(outputs["candidates"]))
    assert sorted(found) == [
        ("few", "test"),
        ("few", "valid"),
        ("many", "test"),
        ("many", "train"),
        ("many", "valid"),
        ("new", "test"),
        ("new", "valid"),
        ("one", "test"),
    ]
    assert found["one", "test"]["item_ids"] == ["a", "b", "c"]  # counts: a 2, b 1, c 1
    assert {s: f.cold for s, f in report.splits.items()} == {"train": 0, "valid": 1, "test": 1}


def test_fewer_items_than_candidates_gives_short_lists(write_tables, outputs) -> None:
    sequences = {"u": ["a", "b", "c", "d"], "v": ["b", "c", "d", "a"], "w": ["c", "d", "a", "b"]}
    report = run(COUNTING, **write_tables(sequences), **outputs)
    lengths = {row["split"]: len(row["item_ids"]) for row in rows(outputs["candidates"])}
    assert lengths == {"train": 3, "valid": 2, "test": 1}
    assert report.short == 9
    assert "9 of 9 prompts have fewer than" in report.flags[0]
    cold = {**sequences, "x": ["a"]}  # what is popular answers x with all four items
    report = run(COUNTING, **write_tables(cold, ends={"x": (0, 0)}, name="cold"), **outputs)
    assert report.short == 10
    assert all(len(row["scores"]) == len(row["item_ids"]) for row in rows(outputs["candidates"]))


def test_nobody_to_ask_and_no_place_for_new_items_are_flagged(write_tables, ring, outputs) -> None:
    nobody = write_tables({"a": ["p"], "b": ["q"]}, ends={"a": (1, 1), "b": (1, 1)}, name="nobody")
    assert "there is no prompt" in run(COUNTING, **nobody, **outputs).flags[0]
    slots = dataclasses.replace(COUNTING, new_item_slots=2)
    catalogue = sorted({"new", *(i for items in ring.values() for i in items)})
    assert (
        "no new item" in run(slots, **write_tables(ring, catalogue), **outputs).flags[0]
    )  # for want of tags


def test_a_device_that_is_not_there_is_told_before_any_work(write_tables, outputs, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    absent = write_tables({}, []) | {"sequences": Path("absent")}
    with pytest.raises(ConfigError, match=r"retrieve\.device is cuda"):
        run(dataclasses.replace(COUNTING, device="cuda"), **absent, **outputs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"segments": ("age", "age")}, "segments has a repeated name"),
        ({"candidates_from": "sasrec+"}, "candidates_from: '' is not one of"),
        ({"models": ("sasrek",)}, r"models\.0\n.*'sasrek'"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_their_key(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        RetrieveConfig(**settings)


def test_every_train_position_gets_candidates_of_its_users_fold(write_tables, ring, outputs) -> None:
    config = dataclasses.replace(COUNTING, train_positions="all")
    report = run(config, **write_tables(ring), **outputs)
    folds = dict(zip(sorted(ring), user_folds(sorted(ring), 2, 0).tolist(), strict=True))
    train = [row for row in rows(outputs["candidates"]) if row["split"] == "train"]
    expected = {(user, p) for user, items in ring.items() for p in range(1, len(items) - 2)}
    assert {(row["user_id"], row["position"]) for row in train} == expected
    assert len(train) == len(expected) == report.splits["train"].users
    for row in train:
        assert row["fold"] == folds[row["user_id"]]
        assert not set(row["item_ids"]) & set(ring[row["user_id"]][: row["position"]])


def test_an_item_never_seen_in_training_is_ranked_last_by_counting(write_tables, ring, outputs) -> None:
    catalogue = sorted({"zzz", *(i for items in ring.values() for i in items)})
    config = dataclasses.replace(COUNTING, ranking_depth=100)
    run(config, **write_tables(ring, catalogue), **outputs)
    assert all(row["item_ids"][-1] == "zzz" for row in rows(outputs["rankings"]))


def test_a_new_item_is_found_by_its_tags_and_counted(write_tables, ring, outputs) -> None:
    """Give a new item the tag of one ring item: who has just met that item is offered the new one."""
    catalogue = sorted({"new", *(i for items in ring.values() for i in items)})
    tags = {item: [f"tag{item}"] for item in catalogue} | {"new": ["tagi0010"]}
    config = dataclasses.replace(COUNTING, models=("content",), candidates_from="content+item_to_item")
    report = run(config, **write_tables(ring, catalogue, tags=tags), **outputs)
    table = rows(outputs["candidates"])
    for row in table:
        latest = ring[row["user_id"]][row["position"] - 1]
        assert ("new" in row["item_ids"]) or latest != "i0010"
    offered = sum("new" in row["item_ids"] for row in table if row["split"] == "test")
    assert report.splits["test"].new_items == offered > 0


@pytest.fixture
def kill_in_epoch(monkeypatch):
    """Return a function that kills the training in its nth epoch, and returns the epochs that begin."""

    def kill(number: int) -> list:
        true_epoch, epochs = training._Training.run_epoch, []

        def run_epoch(*args):
            epochs.append(args)
            if len(epochs) == number:
                raise InterruptedError
            return true_epoch(*args)

        monkeypatch.setattr(training._Training, "run_epoch", run_epoch)
        return epochs

    return kill


def test_a_killed_step_goes_on_from_object_storage(
    write_tables, ring, outputs, tmp_path, monkeypatch, kill_in_epoch
) -> None:
    """Three models (the final one and one per fold) of three epochs; the first machine ends in the fifth."""
    inputs, tables = write_tables(ring), (outputs["candidates"], outputs["rankings"])
    run(CONFIG, **inputs, **outputs)
    whole = [fingerprint.of_folder(table) for table in tables]
    epochs = kill_in_epoch(5)
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        uri = server.upload(inputs["users"], "bucket", "checkpoints/other")
        with pytest.raises(InterruptedError):
            run(CONFIG, **inputs, **outputs, checkpoints=uri)
        run(CONFIG, **inputs, **outputs, checkpoints=uri)
    assert len(epochs) == 3 * 3 + 1, "only the epoch that was cut off is repeated"
    assert [fingerprint.of_folder(table) for table in tables] == whole


def test_a_training_does_not_go_on_with_other_labels(
    write_tables, ring, outputs, tmp_path, kill_in_epoch
) -> None:
    inputs, epochs = write_tables(ring), kill_in_epoch(2)
    kept = {"checkpoints": str(tmp_path / "kept")}
    with pytest.raises(InterruptedError):
        run(CONFIG, **inputs, **outputs, **kept, labels=LabelSettings(most=5))
    run(CONFIG, **inputs, **outputs, **kept, labels=LabelSettings(most=1))
    assert len(epochs) == 2 + 3 * 3


def test_executors_are_missed_before_anything_is_trained(write_tables, ring, outputs, monkeypatch) -> None:
    monkeypatch.setattr(job, "find_spec", lambda _: None)
    config = dataclasses.replace(CONFIG, spark=SparkConfig())
    with pytest.raises(ConfigError, match=r"retrieve\.spark: pyspark is not installed here"):
        run(config, **write_tables(ring), **outputs)


def test_a_failure_leaves_no_output(write_tables, ring, outputs) -> None:
    inputs = write_tables(ring, catalogue=["i0001"])
    with pytest.raises(DataError, match="not in the catalogue"):
        run(COUNTING, **inputs, **outputs)
    left = [path.name for path in outputs["candidates"].parent.iterdir() if path.name != "tables"]
    assert left == []


def test_the_component_runs_as_the_pipeline_calls_it(write_tables, ring, tmp_path) -> None:
    inputs = write_tables(ring)
    out = {name: tmp_path / "out" / name for name in ("lists", "report.html", "tables")}
    retrieve.python_func(
        config=to_parameter(COUNTING),
        fingerprint="",
        checkpoints="",
        labels=to_parameter(LabelSettings(most=5)),
        tables={name: str(folder) for name, folder in inputs.items()},
        lists=Dataset(uri=str(out["lists"])),
        page=HTML(uri=str(out["report.html"])),
        tables_so_far=str(out["tables"]),
    )
    tables = json.loads(out["tables"].read_text())
    assert set(tables) == {*inputs, "candidates", "rankings", "served"}
    assert pq.read_table(tables["rankings"]).num_rows
    assert "item_to_item" in out["report.html"].read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('{"models": ["bm25"]}', r"models\[0\]: 'bm25' is not one of", id="unknown model"),
        pytest.param('{"models": []}', r"models: .*at least 1 item", id="no model"),
        pytest.param(
            '{"candidates_from": "sasrec+nothing"}', "candidates_from: 'nothing' is not", id="blend"
        ),
        pytest.param('{"candidates_from": "sasrec+sasrec"}', "repeated name", id="twice in a blend"),
        pytest.param('{"num_candidates": 0}', "num_candidates: must be above 0", id="no candidates"),
        pytest.param('{"folds": 1}', "folds: must be at least 2", id="no cross-fitting"),
        pytest.param('{"sasrec": {"dim": 10, "heads": 3}}', "multiple of heads", id="heads"),
        pytest.param('{"sasrec": {"training": {"learning_rate": 0}}}', "learning_rate", id="rate"),
        pytest.param('{"item_to_item": {"decay": 0}}', "decay", id="decay"),
        pytest.param(
            '{"gru4rec": {"negatives": 9, "label_smoothing": 0.1}}', "whole catalogue", id="smoothing"
        ),
        pytest.param('{"segments": ["shoe_size"]}', r"segments\[0\]: 'shoe_size' is not", id="segments"),
        pytest.param('{"num_candidates": 5, "new_item_slots": 5}', "must leave slots", id="slots"),
        pytest.param('{"tiger": {"dim": 10}}', "multiple of heads", id="tiger"),
        pytest.param('{"tiger": {"ids": {"codes": 1}}}', "codes: must be at least 2", id="codes"),
    ],
)
def test_nonsense_configuration_is_named(text, message) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(RetrieveConfig, json.loads(text), "retrieve")


def test_one_users_fold_does_not_depend_on_the_others() -> None:
    everyone = [f"user{i}" for i in range(500)]
    folds = dict(zip(everyone, user_folds(everyone, 5, seed=3).tolist(), strict=True))
    assert user_folds(everyone[40:60], 5, seed=3).tolist() == [folds[u] for u in everyone[40:60]]
    assert {count > 60 for count in map(list(folds.values()).count, range(5))} == {True}

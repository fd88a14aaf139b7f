"""Executors give the rows of a laptop: a real Spark, partitions cut where it cuts them."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.retrieve import passes
from components.retrieve.blend.config import BLENDS, BlendConfig
from components.retrieve.blend.recommender import Blends
from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import Queries
from components.retrieve.job import run
from components.retrieve.model_config import SasrecConfig, TrainingConfig
from components.retrieve.partition import EVALUATED
from components.retrieve.ranking import RankedLists
from tests.small_spark import SPARK

pytestmark = pytest.mark.usefixtures("random_vectors")

CONFIG = RetrieveConfig(
    models=("popularity", "sasrec"),
    candidates_from="blend",
    num_candidates=5,
    ranking_depth=12,
    train_positions=3,
    new_item_slots=1,
    sasrec=SasrecConfig(dim=16, heads=1, layers=1, training=TrainingConfig(epochs=1)),
    blend=BlendConfig(models=("item_to_item", "sasrec"), pool=20, learner="teacher"),
)
THREE_PARTS = dataclasses.replace(SPARK, shuffle_partitions=3)


def table(folder: Path, *key: str) -> list[dict]:
    return sorted(pq.read_table(folder).to_pylist(), key=lambda row: [row[name] for name in key])


def test_executors_give_the_rows_of_a_laptop(write_tables, ring, tmp_path, monkeypatch) -> None:
    profiles = [{"user_id": user, "gender": "fm"[number % 2]} for number, user in enumerate(ring)]
    catalogue = sorted({"new", *(item for items in ring.values() for item in items)})
    tags = {item: [f"tag{item[-1]}"] for item in catalogue} | {"new": ["tag1"]}
    ends = {"u0000": (0, 1), "u0001": (0, 1)}
    inputs = write_tables(ring, catalogue, ends=ends, profiles=profiles, tags=tags)
    found = {}
    for name, config, size in (
        ("laptop", CONFIG, 2048),
        ("small partitions", CONFIG, 7),
        ("executors", dataclasses.replace(CONFIG, spark=THREE_PARTS), 2048),
    ):
        monkeypatch.setattr(passes, "PARTITION", size)
        out = {key: tmp_path / name / key for key in ("candidates", "rankings", "served", "report_html")}
        found[name] = out, run(config, **inputs, **out)
    laptop, report = found.pop("laptop")
    for out, other in found.values():
        for kind, key in (("candidates", ()), ("rankings", ("model",))):
            keys = (*key, "user_id", "split", "position")
            rows, expected = table(out[kind], *keys), table(laptop[kind], *keys)
            assert len(expected) > 200
            for column in ("scores", "teacher"):
                both = [[row.pop(column, None) or [] for row in part] for part in (rows, expected)]
                assert np.concatenate(both[0]) == pytest.approx(np.concatenate(both[1]), rel=1e-5, abs=1e-5)
            assert rows == expected
        for split, figures in report.splits.items():
            assert other.splits[split].ceilings == pytest.approx(figures.ceilings)
            assert other.splits[split].first_labels == pytest.approx(figures.first_labels)
            means = {"ceilings": figures.ceilings, "first_labels": figures.first_labels}
            assert dataclasses.replace(other.splits[split], **means) == figures
        for model, splits in report.models.items():
            assert other.models[model]["test"] == pytest.approx(splits["test"])
    assert {*BLENDS, "sasrec"} < set(report.models)


def test_blends_rank_a_split_once(write_tables, ring, tmp_path, monkeypatch) -> None:
    """Both have a row and one names the candidates: one pass over the features for all three."""
    ranked, rank = Counter[int](), Blends._rank

    def counting(self: Blends, queries: Queries, depth: int) -> dict[str, RankedLists]:
        ranked[id(self)] += 1
        return rank(self, queries, depth)

    monkeypatch.setattr(Blends, "_rank", counting)
    out = {key: tmp_path / key for key in ("candidates", "rankings", "served", "report_html")}
    run(CONFIG, **write_tables(ring, sorted({item for items in ring.values() for item in items})), **out)
    final, *folds = sorted(ranked.values(), reverse=True)
    assert final == len(EVALUATED) and folds == [1] * CONFIG.folds


def test_what_was_shown_cannot_be_spread() -> None:
    with pytest.raises(ValueError, match="executors have no exposures"):
        RetrieveConfig(models=("online",), spark=SPARK)

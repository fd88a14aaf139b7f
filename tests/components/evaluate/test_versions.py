"""Two versions compared by the values per user that their evaluations recorded."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.evaluate.versions import compare
from components.register.config import RegisterConfig
from components.register.job import run
from components.shared.errors import ConfigError, OutputError
from components.shared.prompting.settings import ServingConfig
from components.shared.tracking.mlflow_client import connect
from data_contracts.metrics import USER_METRICS

MODEL = "recllm-r1"


def values(ndcg: np.ndarray, first_user: int, labels: str = "item 7") -> pa.Table:
    count = len(ndcg)
    keys = {"user_id": [f"u{first_user + i}" for i in range(count)], "position": [7] * count}
    keys["labels"] = [labels] * count
    zeros = {metric: np.zeros(count) for metric in USER_METRICS}
    rows = [
        {"model": [name] * count, **keys, **zeros, "ndcg@10": v}
        for name, v in (("grpo", ndcg), ("sft", ndcg + 9))
    ]
    return pa.concat_tables([pa.table(row) for row in rows])


@pytest.fixture
def registered(tracking_uri, tiny_model_folder, served_folder, make_report, tmp_path: Path):
    def register(key: str, table: pa.Table) -> str:
        (tmp_path / "report.json").write_text(make_report(lineage={"run_key": key}).to_json())
        pq.write_table(table, tmp_path / "users")
        config = RegisterConfig(tracking_uri=tracking_uri, serving=ServingConfig(max_new_tokens=4))
        files = {
            "report": tmp_path / "report.json",
            "users": tmp_path / "users",
            "html": tmp_path / "page.html",
        }
        return run(config, model=tiny_model_folder, served=served_folder, **files)

    return register


def test_users_of_both_are_compared(registered, tracking_uri):
    ndcg = np.random.default_rng(0).random(60)
    registered("one", values(ndcg, 0))
    registered("two", values(ndcg[20:] + 0.05, 20))  # users 20 to 59 are in both
    rows, users = compare(tracking_uri, MODEL, "1", "challenger")
    assert users == 40
    found = {row.metric: row for row in rows}
    assert found["NDCG@10"].difference == "+0.0500" and found["NDCG@10"].interval == "+0.0500 to +0.0500"
    assert float(found["NDCG@10"].p_holm) < 0.01 and float(found["Recall@10"].p_holm) == 1.0


def test_what_cannot_be_compared_is_named(registered, tracking_uri, small_disk, monkeypatch, tmp_path):
    registered("one", values(np.random.default_rng(0).random(3000), 0))
    registered("two", values(np.ones(3), 5000))
    with pytest.raises(ConfigError, match="different users"):
        compare(tracking_uri, MODEL, "1", "2")
    registered("three", values(np.ones(3000), 0, "item 8"))  # what later stands at the same position
    with pytest.raises(ConfigError, match="different users or labels"):
        compare(tracking_uri, MODEL, "1", "3")
    with pytest.raises(ConfigError, match="no version or alias '7'; it has 1, 2, 3, challenger"):
        compare(tracking_uri, MODEL, "1", "7")
    client = connect(tracking_uri)
    client.create_model_version(MODEL, "file:///elsewhere")
    with pytest.raises(ConfigError, match=r"version 4 has no users\.parquet"):
        compare(tracking_uri, MODEL, "1", "4")
    run_id = client.get_model_version(MODEL, "2").run_id
    pq.write_table(values(np.ones(3), 0).drop(["map@10"]), tmp_path / "users.parquet")
    client.log_artifact(run_id, str(tmp_path / "users.parquet"))
    with pytest.raises(ConfigError, match=r"version 2: its users\.parquet cannot be read, .*map@10"):
        compare(tracking_uri, MODEL, "1", "2")
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with pytest.raises(OutputError, match="a disk is full"):
        compare(tracking_uri, MODEL, "1", "2")

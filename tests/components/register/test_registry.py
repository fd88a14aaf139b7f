"""The same registry behind MLflow servers: on SQLite, and on PostgreSQL with files in S3."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.evaluate.versions import compare
from components.register.config import RegisterConfig
from components.register.history import read_entries
from components.register.job import run, run_champion
from components.register.listing import history, list_versions
from components.register.packaging import EXAMPLE
from components.register.promote import promote, rollback
from components.shared.errors import ConfigError, UserError
from components.shared.tracking.mlflow_client import as_default, connect
from components.shared.tracking.registry import aliases, versions
from data_contracts.evaluation import TRAINED_MODEL
from data_contracts.metrics import USER_METRICS
from tests.components.shared.artifacts import s3_server
from tests.components.shared.tracking import postgres
from tests.components.shared.tracking.mlflow_server import serving

MODEL = "recllm-r1"


@pytest.fixture
def server(tracking_uri: str, tmp_path: Path) -> Iterator[str]:
    with serving(tracking_uri, tmp_path) as uri:
        yield uri


@pytest.mark.slow
def test_register_promote_and_fetch_over_http(
    server, tiny_model_folder, served_folder, make_report, tmp_path
) -> None:
    config = RegisterConfig(tracking_uri=server)
    report = tmp_path / "report.json"
    (tmp_path / "users").write_bytes(b"a table")
    for key in ("run-1", "run-1", "run-2"):
        report.write_text(make_report(lineage={"run_key": key}).to_json())
        inputs = {"model": tiny_model_folder, "report": report, "html": tmp_path / "info.html"}
        inputs |= {"served": served_folder, "users": tmp_path / "users"}
        version = run(config, **inputs)
    assert version == "2"
    promote(server, MODEL, "1")
    promote(server, MODEL)
    assert rollback(server, MODEL).version == "1"
    entries = read_entries(connect(server), MODEL)
    assert [entry.promotion.version for entry in entries if entry.done] == ["1", "2", "1"]
    run_champion(config, "1", tmp_path / "champion")
    for path in tiny_model_folder.iterdir():
        assert (tmp_path / "champion" / path.name).read_bytes() == path.read_bytes()


def write_users(path: Path, value: float) -> None:
    keys = {"model": [TRAINED_MODEL] * 30, "user_id": [f"u{n}" for n in range(30)], "position": [3] * 30}
    keys["labels"] = ["item"] * 30
    pq.write_table(pa.table({**keys, **dict.fromkeys(USER_METRICS, [value] * 30)}), path)


def changes(uri: str, version: str) -> bool:
    """Promote the version; return whether that changed the champion."""
    try:
        return promote(uri, MODEL, version).changed
    except UserError:
        return False


@pytest.mark.slow
def test_everything_on_postgresql_and_s3_which_refused_at_first(
    config, inputs, of_run, tmp_path: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the refusal is meant
    with postgres.serving() as database, s3_server.serving(tmp_path_factory.mktemp("s3")) as store:
        store.client().create_bucket(Bucket="mlflow")
        environment = {**store.environment, "AWS_MAX_ATTEMPTS": "1"}
        refused = environment | {"AWS_SECRET_ACCESS_KEY": "another"}
        with serving(database, tmp_path, "s3://mlflow/models", refused) as uri:
            with pytest.raises(ConfigError, match=r"MLflow fails: .*report.json"):
                run(replace(config, tracking_uri=uri), **inputs)
            assert versions(connect(uri), MODEL) == []
        port = int(uri.rpartition(":")[2])  # the same server, repaired
        with serving(database, tmp_path, "s3://mlflow/models", environment, port) as uri:
            config = replace(config, tracking_uri=uri)
            write_users(inputs["users"], 0.5)
            assert run(config, **inputs) == run(config, **inputs) == "1"
            write_users(inputs["users"], 0.75)
            assert run(config, **of_run({"run_key": "run-2"})) == "2"
            promote(uri, MODEL, "1")
            promote(uri, MODEL)
            assert rollback(uri, MODEL).version == "1"
            assert aliases(connect(uri), MODEL) == {"challenger": "2", "champion": "1", "previous": "2"}
            assert [change.version for change in history(uri, MODEL)] == ["1", "2", "1"]
            listed = [(found.version, found.aliases) for found in list_versions(uri, MODEL)]
            assert listed == [("2", "challenger, previous"), ("1", "champion")]
            rows, users = compare(uri, MODEL, "champion", "previous")
            assert (users, rows[0].difference, rows[0].interval) == (30, "+0.2500", "+0.2500 to +0.2500")
            with as_default(connect(uri)):
                model = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
            assert sorted(model.predict(EXAMPLE)["item_ids"][0]) == ["i1", "i2"]
            run_champion(config, "1", tmp_path / "champion")
            for path in inputs["model"].iterdir():
                assert (tmp_path / "champion" / path.name).read_bytes() == path.read_bytes()
            with ThreadPoolExecutor(8) as pool:  # version 2 takes over, or both do in turn
                changed = sum(pool.map(lambda version: changes(uri, version), ["1", "2"] * 6))
            champions = [None, *(change.version for change in history(uri, MODEL))]
            assert changed >= 1 and len(champions) == 4 + changed
            assert [change.replaced for change in history(uri, MODEL)] == champions[:-1]
            assert aliases(connect(uri), MODEL)["champion"] == champions[-1]
            assert all(entry.done for entry in read_entries(connect(uri), MODEL))
        stored = store.client().list_objects_v2(Bucket="mlflow", Prefix="models/")["Contents"]
        assert any(found["Key"].endswith("model.safetensors") for found in stored)

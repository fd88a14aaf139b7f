"""A registry for the tests of several steps."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry set up once, which takes seconds; every test that asks for `tracking_uri` copies it."""
    from components.shared.tracking.mlflow_client import connect

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client = connect(f"sqlite:///{path}", create=True)
    client.search_registered_models()
    return path


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What retrieve saved of item-to-item: each of 30 users went on from item n to n + 1, of 12 items."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from components.retrieve.config import RetrieveConfig
    from components.retrieve.job import run
    from data_contracts.tables import CATALOGUE, EXPOSURES, SEQUENCES, USERS

    folder, day = tmp_path_factory.mktemp("retrieved"), 86_400_000_000
    catalogue = [
        {"item_id": f"i{n:02}", "title": f"Title {n}", "topic": "tea", "train_count": 0}
        | {"tags": ["tea", "green"], "brand": "Acme", "description": f"No. {n}"}
        for n in range(12)
    ]
    sequences = [
        {
            "user_id": f"u{user:02}",
            "item_ids": [f"i{(user + n) % 12:02}" for n in range(6)],
            "timestamps": [n * day for n in range(6)],
            "engagement": [1.0] * 6,
            "train_end": 4,
            "valid_end": 5,
            "events": [],
        }
        for user in range(30)
    ]
    users = [{"user_id": row["user_id"], "gender": "f"} for row in sequences]
    tables = {
        "sequences": (sequences, SEQUENCES),
        "catalogue": (catalogue, CATALOGUE),
        "users": (users, USERS),
        "exposures": ([], EXPOSURES),
    }
    for name, (rows, schema) in tables.items():
        (folder / name).mkdir()
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / name / "part-0.parquet")
    config = RetrieveConfig(models=("popularity",), candidates_from="item_to_item", num_candidates=4)
    written = ("candidates", "rankings", "served", "report_html")
    run(config, **{name: folder / name for name in (*tables, *written)})
    return folder / "served"


@pytest.fixture(scope="session")
def model_for_vllm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with attention heads of a size that vLLM has for a CPU; skipped without vLLM."""
    pytest.importorskip("vllm")
    from components.base_model.config import BaseModelConfig, RandomWeights
    from components.base_model.job import run

    folder = tmp_path_factory.mktemp("models") / "for-vllm"
    run(BaseModelConfig(random_weights=RandomWeights(hidden_size=64, heads=2)), folder)
    return folder


@pytest.fixture
def vllm_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let vLLM take little of this machine."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")


@pytest.fixture
def tracking_uri(fresh_database: Path, tmp_path: Path) -> str:
    shutil.copyfile(fresh_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"

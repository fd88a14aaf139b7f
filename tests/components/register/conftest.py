"""A registry of its own for each test, copied from one database that was set up once (that takes seconds)."""

import shutil
from pathlib import Path

import pytest

from components.register import registry


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client = registry.connect(f"sqlite:///{path}", create=True)
    client.search_registered_models()
    return path


@pytest.fixture
def tracking_uri(fresh_database: Path, tmp_path: Path) -> str:
    shutil.copyfile(fresh_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"

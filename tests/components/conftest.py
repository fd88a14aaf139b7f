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


@pytest.fixture
def tracking_uri(fresh_database: Path, tmp_path: Path) -> str:
    shutil.copyfile(fresh_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"

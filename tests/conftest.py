"""Fixtures that more than one room uses."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised model of two small layers with a real tokenizer and chat template."""
    from components.base_model.config import BaseModelConfig, RandomWeights
    from components.base_model.job import run

    folder = tmp_path_factory.mktemp("models") / "tiny"
    run(BaseModelConfig(random_weights=RandomWeights(hidden_size=32)), folder)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; the test is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder

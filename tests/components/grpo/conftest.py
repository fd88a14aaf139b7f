"""Models that GRPO starts from."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def teach(prompts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Return what makes, of a tiny model, one that has learnt the format of the answer, and little else."""
    from components.sft.config import SftConfig
    from components.sft.job import run as run_sft

    def taught(base_model: Path) -> Path:
        folder = tmp_path_factory.mktemp("sft")
        config = SftConfig(epochs=25, batch_size=8, micro_batch_size=8, learning_rate=1.0e-2, dtype="float32")
        outputs = {"model": folder / "model", "curves": folder / "curves.html"}
        run_sft(config, prompts=prompts_folder, base_model=base_model, **outputs)
        return folder / "model"

    return taught


@pytest.fixture(scope="session")
def sft_folder(teach: Callable[[Path], Path], tiny_model_folder: Path) -> Path:
    """The tiny model, taught."""
    return teach(tiny_model_folder)

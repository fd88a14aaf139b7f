"""Models that GRPO starts from."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def sft_folder(
    prompts_folder: Path, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A tiny model that has learnt the format of the answer, and little else."""
    from components.sft.config import SftConfig
    from components.sft.job import SftInputs, SftOutputs
    from components.sft.job import run as run_sft

    folder = tmp_path_factory.mktemp("sft")
    config = SftConfig(epochs=25, batch_size=8, micro_batch_size=8, learning_rate=1.0e-2, dtype="float32")
    run_sft(
        config,
        SftInputs(prompts_folder, tiny_model_folder),
        SftOutputs(folder / "model", folder / "curves.html", folder / "metrics.json"),
    )
    return folder / "model"

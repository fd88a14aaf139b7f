"""The verl engine's refusals, and its end when verl fails; verl itself is not needed."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from components.grpo.config import GrpoConfig, VerlConfig
from components.grpo.job import run
from components.grpo.verl import engine, process
from components.shared.errors import ConfigError, TrainingError
from components.shared.prompting.table import read_prompts

CONFIG = GrpoConfig(
    engine="verl", steps=6, prompts_per_step=1, group_size=2, verl=VerlConfig(gpus_per_node=1)
)


@pytest.fixture
def train(tiny_model_folder: Path, prompts_folder: Path, tmp_path: Path):
    rows = read_prompts(prompts_folder, "train")
    return lambda **replaced: engine.train(
        dataclasses.replace(CONFIG, **replaced), tiny_model_folder, rows, rows[:2], tmp_path
    )


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let verl seem installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


@pytest.mark.parametrize(
    ("installed", "missing"),
    [pytest.param((), "verl", id="verl"), pytest.param(("verl",), "flash-attn", id="flash-attn")],
)
def test_where_a_package_is_not_installed(
    installed: tuple[str, ...], missing: str, train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in installed else None)
    with pytest.raises(ConfigError, match=f"{missing} is not installed here"):
        train(verl=VerlConfig(gpus_per_node=1, attention="flash_attention_2"))


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"prompts_per_step": 99}, r"prompts_per_step is 99, but only 16"),
        (
            {"max_new_tokens": 10**6},
            r"with its answer has \d+ tokens, .* than the model's context of \d+",
        ),
        ({"verl": VerlConfig(gpus_per_node=1, max_tokens_per_gpu=150)}, r"max_tokens_per_gpu of 150; lower"),
    ],
)
def test_sizes_that_do_not_fit(replaced: dict, message: str, train, found) -> None:
    with pytest.raises(ConfigError, match=message):
        train(**replaced)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"prompts_per_step": 5, "group_size": 12}, "is 60, which 8 GPUs cannot share evenly"),
        (
            {"dtype": "float32", "verl": VerlConfig(attention="flash_attention_2")},
            "flash_attention_2 has no float32",
        ),
        ({"train_layers": 2}, "train_layers is of the local engine"),
        ({"steps": 0}, "set engine to local"),
    ],
)
def test_configurations_that_verl_cannot_run(replaced: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GrpoConfig(engine="verl", **{"prompts_per_step": 4, "group_size": 8} | replaced)


@pytest.mark.parametrize("checkpoints", ["", "s3://bucket/checkpoints"])
def test_a_cluster_needs_a_folder_that_its_nodes_see(
    checkpoints: str, prompts_folder, tiny_model_folder, tmp_path
) -> None:
    config = dataclasses.replace(CONFIG, verl=VerlConfig(gpus_per_node=1, ray_address="auto"))
    outputs = {name: tmp_path / name for name in ("model", "curves", "alarms")}
    with pytest.raises(ConfigError, match="a folder that all of them see"):
        run(
            config,
            prompts=prompts_folder,
            sft_model=tiny_model_folder,
            checkpoints=checkpoints,
            **outputs,
        )


def test_a_clusters_nodes_get_a_copy_of_the_model_where_they_see_it(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    assert engine._seen_by_all_nodes(CONFIG, tiny_model_folder, tmp_path) == tiny_model_folder.resolve()
    config = dataclasses.replace(CONFIG, verl=VerlConfig(gpus_per_node=1, ray_address="auto"))
    for _ in range(2):  # a resumed step finds it
        copy = engine._seen_by_all_nodes(config, tiny_model_folder, tmp_path)
        assert copy.is_relative_to(tmp_path) and (copy / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("print('no such node'); raise SystemExit(3)", r"exit status 3(.|\n)*no such node"),
        ("raise RuntimeError('CUDA out of memory')", r"ran out: lower grpo\.verl\.max_tokens_per_gpu"),
        ("print('nothing to do')", "ended after step 0 of 6"),
    ],
    ids=["fails", "out of memory", "does nothing"],
)
def test_a_verl_that_ends_early_is_told_with_its_last_words(
    script: str, message: str, train, found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """verl's entry point is replaced by a script here."""
    stand_in = tmp_path / "modules" / "verl" / "trainer"
    stand_in.mkdir(parents=True)
    (stand_in / "main_ppo.py").write_text(script)
    monkeypatch.setitem(process.ENVIRONMENT, "PYTHONPATH", str(tmp_path / "modules"))
    with pytest.raises(TrainingError, match=message):
        train()

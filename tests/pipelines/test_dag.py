"""The compiled pipeline: what a cluster gets."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.shared.artifacts import fingerprint
from pipelines import profile
from pipelines.dag import Outputs, compile_to
from pipelines.run_page import PAGES

CACHED_STEPS = ("sequences", "retrieve", "base-model", "prompts", "sft", "grpo")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dag") / "pipeline.yaml"
    compile_to(profile.load("tiny"), path)
    return path


def test_every_step_has_its_image_and_installs_nothing(compiled: Path) -> None:
    spec = next(yaml.safe_load_all(compiled.read_text()))
    images = {
        name.removeprefix("exec-"): executor["container"]["image"]
        for name, executor in spec["deploymentSpec"]["executors"].items()
    }
    assert images == {
        "sequences": "recllm-r1/spark:0.1.0",
        "prompts": "recllm-r1/spark:0.1.0",
        "retrieve": "recllm-r1/trainer:0.1.0",
        "base-model": "recllm-r1/trainer:0.1.0",
        "sft": "recllm-r1/trainer:0.1.0",
        "grpo": "recllm-r1/trainer:0.1.0",
        "evaluate": "recllm-r1/trainer:0.1.0",
        "champion": "recllm-r1/ops:0.1.0",
        "gate": "recllm-r1/ops:0.1.0",
        "register": "recllm-r1/ops:0.1.0",
    }
    assert "pip install" not in compiled.read_text()


def test_only_what_changes_from_run_to_run_is_a_parameter(compiled: Path) -> None:
    spec = next(yaml.safe_load_all(compiled.read_text()))
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    of = ("data", "base_model", "encoder", "reward")
    fingerprints = {f"{name}_fingerprint" for name in of}
    assert set(parameters) == {"data", "lineage", "checkpoints"} | fingerprints


def tasks_of(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        name: task
        for component in (spec["root"], *spec["components"].values())
        for name, task in component.get("dag", {}).get("tasks", {}).items()
    }


def test_what_reads_or_writes_the_registry_is_never_cached(compiled: Path) -> None:
    tasks = tasks_of(next(yaml.safe_load_all(compiled.read_text())))
    cached = {name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert {"champion", "register"} & cached == set()
    assert set(CACHED_STEPS) <= cached


FOLDERS = {step: step.replace("-", "_") for step in CACHED_STEPS}
FOLDERS |= {"sequences": "etl/sequences", "prompts": "etl/prompts"}


def test_every_cached_step_is_keyed_by_its_own_code(compiled: Path) -> None:
    tasks = tasks_of(next(yaml.safe_load_all(compiled.read_text())))
    for step, folder in {**FOLDERS, "evaluate": "evaluate", "gate": "evaluate"}.items():
        key = tasks[step]["inputs"]["parameters"]["fingerprint"]["runtimeValue"]["constant"]
        assert key.endswith(fingerprint.of_step(folder))


@pytest.mark.parametrize(
    ("file", "changed", "unchanged"),
    [
        pytest.param("components/shared/reporting/style.css", set(), set(CACHED_STEPS), id="stylesheet"),
        pytest.param("components/evaluate/scores.py", set(), set(CACHED_STEPS), id="another step"),
        pytest.param(
            "components/shared/prompting/render.py",
            {"prompts"},
            {"sequences", "retrieve", "base-model"},
            id="prompt",
        ),
        pytest.param("components/sft/job.py", {"sft"}, set(CACHED_STEPS) - {"sft"}, id="SFT"),
    ],
)
def test_a_change_of_code_changes_the_keys_of_the_steps_that_reach_it(
    file: str, changed: set[str], unchanged: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("components", "data_contracts"):
        shutil.copytree(fingerprint.ROOT / package, tmp_path / package)
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    before = {step: fingerprint.of_step(folder) for step, folder in FOLDERS.items()}
    (tmp_path / file).write_text((tmp_path / file).read_text() + "\n")
    found = {step for step, folder in FOLDERS.items() if fingerprint.of_step(folder) != before[step]}
    assert changed <= found
    assert not found & unchanged


def test_the_main_page_of_a_run_links_the_page_of_every_step(compiled: Path) -> None:
    spec = next(yaml.safe_load_all(compiled.read_text()))
    pages = {
        (name.removeprefix("comp-"), artifact)
        for name, component in spec["components"].items()
        for artifact, output in component.get("outputDefinitions", {}).get("artifacts", {}).items()
        if output["artifactType"]["schemaTitle"] == "system.HTML"
    }
    selected = spec["root"]["dag"]["outputs"]["artifacts"]
    outputs = {step: found["artifactSelectors"][0] for step, found in selected.items()}
    linked = {(outputs[step]["producerSubtask"], outputs[step]["outputArtifactKey"]) for step in PAGES}
    assert pages == linked
    assert {step.replace("-", "_") for step in CACHED_STEPS} <= set(Outputs._fields)


def test_compiling_twice_gives_the_same_file(compiled: Path, tmp_path: Path) -> None:
    compile_to(profile.load("tiny"), tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_text() == compiled.read_text()

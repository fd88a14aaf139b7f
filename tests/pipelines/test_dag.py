"""The compiled pipeline: what a cluster gets."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.shared.artifacts import fingerprint
from pipelines import lineage, profile
from pipelines.dag import Outputs, compile_to
from pipelines.run_page import PAGES

CACHED_STEPS = ("sequences", "retrieve", "base-model", "prompts", "sft", "grpo")
GOLDEN = Path(__file__).parent / "golden"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dag") / "pipeline.yaml"
    compile_to(path, profile.load("tiny"), "tiny")
    return path


def normalised(path: Path) -> str:
    """The compiled file without the steps' programs and without what names their code."""
    spec, *platform = yaml.safe_load_all(path.read_text())
    for executor in spec["deploymentSpec"]["executors"].values():
        del executor["container"]["command"], executor["container"]["args"]
    text = yaml.safe_dump_all([spec, *platform])
    return re.sub(r"(settings: |(?:constant|channel--\S+\}\}|): '?-?|-)[0-9a-f]{16}\b", r"\1CODE", text)


@pytest.mark.parametrize("name", profile.names())
def test_the_compiled_profiles_are_those_of_the_golden_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a wanted change: UPDATE_GOLDEN=1 pytest tests/pipelines/test_dag.py, and read the difference."""
    monkeypatch.setattr(lineage, "git_commit", lambda: COMMIT)
    compile_to(tmp_path / "pipeline.yaml", profile.load(name), name)
    found = normalised(tmp_path / "pipeline.yaml")
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / f"{name}.yaml").write_text(found)
    assert found == (GOLDEN / f"{name}.yaml").read_text()


def test_nothing_is_installed_when_a_step_starts(compiled: Path) -> None:
    assert "pip install" not in compiled.read_text()


def test_the_raw_tables_are_the_only_parameter(compiled: Path) -> None:
    spec = next(yaml.safe_load_all(compiled.read_text()))
    assert set(spec["root"]["inputDefinitions"]["parameters"]) == {"data"}


def test_a_step_has_at_most_one_page_one_table_or_model_and_its_metrics(compiled: Path) -> None:
    spec = next(yaml.safe_load_all(compiled.read_text()))
    for name, component in spec["components"].items():
        if "executorLabel" not in component:
            continue  # a group of steps
        artifacts = component.get("outputDefinitions", {}).get("artifacts", {})
        kinds = [output["artifactType"]["schemaTitle"] for output in artifacts.values()]
        for some in (
            {"system.HTML"},
            {"system.Metrics"},
            {"system.Dataset", "system.Model", "system.Artifact"},
        ):
            assert sum(kind in some for kind in kinds) <= 1, name


def test_tables_are_never_downloaded_by_the_backend(compiled: Path) -> None:
    spec = next(yaml.safe_load_all(compiled.read_text()))
    for component in spec["components"].values():
        for given in component.get("inputDefinitions", {}).get("artifacts", {}).values():
            assert given["artifactType"]["schemaTitle"] != "system.Dataset"


def tasks_of(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        name: task
        for component in (spec["root"], *spec["components"].values())
        for name, task in component.get("dag", {}).get("tasks", {}).items()
    }


def test_a_dependency_that_another_implies_is_no_edge_of_its_own(compiled: Path) -> None:
    tasks = tasks_of(next(yaml.safe_load_all(compiled.read_text())))
    found = {name: task.get("dependentTasks", []) for name, task in tasks.items()}
    assert found["sft"] == ["prompts"]
    assert found["evaluate"] == ["champion", "grpo"]
    assert found["condition-1"] == ["gate"]


def test_what_reads_the_clock_or_writes_the_registry_is_never_cached(compiled: Path) -> None:
    tasks = tasks_of(next(yaml.safe_load_all(compiled.read_text())))
    cached = {name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert {"window", "register"} & cached == set()
    assert {*CACHED_STEPS, "champion", "evaluate", "gate"} <= cached


def test_without_a_cache_no_task_uses_it(tmp_path: Path) -> None:
    compile_to(tmp_path / "pipeline.yaml", profile.load("tiny"), "tiny", cached=False)
    assert "enableCache" not in (tmp_path / "pipeline.yaml").read_text()


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
    assert set(PAGES) == set(Outputs._fields) - {"report"}
    spec = next(yaml.safe_load_all(compiled.read_text()))
    selected = spec["root"]["dag"]["outputs"]["artifacts"]
    for step in PAGES:
        (found,) = selected[step]["artifactSelectors"]
        assert (found["producerSubtask"], found["outputArtifactKey"]) == (step, "page")


def test_compiling_twice_gives_the_same_file(compiled: Path, tmp_path: Path) -> None:
    compile_to(tmp_path / "again.yaml", profile.load("tiny"), "tiny")
    assert (tmp_path / "again.yaml").read_text() == compiled.read_text()

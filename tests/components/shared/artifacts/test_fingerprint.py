"""A step's fingerprint: what changes it, and what must not retrain."""

from pathlib import Path

import pytest

from components.shared.artifacts import fingerprint

FILES = {
    "components/__init__.py": "",
    "components/sft/component.py": "import kfp\nfrom components.sft.job import run",
    "components/sft/job.py": (
        "from components.shared.reporting import page\n"
        "from components.shared.logs import logger\n"
        "import json\n"
        "def run():\n    import torch\n    from components.shared import answer\n"
    ),
    "components/shared/answer.py": "import data_contracts.tables as tables",
    "components/shared/reporting/page.py": "import jinja2",
    "components/shared/reporting/style.css": "",
    "components/shared/logs.py": "",
    "components/shared/other.py": "",
    "components/grpo/job.py": "from components.shared import other",
    "components/etl/contracts.py": "import data_contracts",
    "data_contracts/__init__.py": "",
    "data_contracts/tables.py": "",
    "data_contracts/expectations/prompts.json": "{}",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        pytest.param("components/sft/job.py", {"sft"}, id="own module"),
        pytest.param("components/sft/component.py", set(), id="KFP wrapper"),
        pytest.param("components/shared/answer.py", {"sft"}, id="imported within a function"),
        pytest.param("data_contracts/tables.py", {"sft"}, id="imported by an import"),
        pytest.param("components/__init__.py", {"sft", "grpo"}, id="package around it"),
        pytest.param("components/shared/other.py", {"grpo"}, id="imported by another step"),
        pytest.param("components/shared/reporting/page.py", set(), id="page"),
        pytest.param("components/shared/reporting/style.css", set(), id="stylesheet"),
        pytest.param("components/shared/logs.py", set(), id="logging"),
        pytest.param("data_contracts/expectations/prompts.json", {"etl"}, id="expectation suite"),
    ],
)
def test_a_changed_file_changes_the_steps_that_reach_it(project: Path, file: str, changed: set[str]) -> None:
    steps = ("sft", "grpo", "etl")
    before = {step: fingerprint.of_step(step) for step in steps}
    (project / file).write_text(FILES[file] + "\n")
    assert {step for step in steps if fingerprint.of_step(step) != before[step]} == changed


def test_a_librarys_version_changes_the_steps_that_import_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"torch": "1.0", "kfp": "1.0", "jinja2": "1.0"}
    monkeypatch.setattr(fingerprint, "_version", versions.get)
    seen = {fingerprint.of_step("sft")}
    for library, number in (("kfp", 1), ("jinja2", 1), ("torch", 2)):
        versions[library] = "2.0"
        seen.add(fingerprint.of_step("sft"))
        assert len(seen) == number, library


def test_an_unknown_step_is_refused() -> None:
    with pytest.raises(ValueError, match="step 'stf': no folder"):
        fingerprint.of_step("stf")


@pytest.mark.parametrize("step", ["base_model", "etl", "evaluate", "grpo", "register", "retrieve", "sft"])
def test_every_step_has_its_own(step: str) -> None:
    others = {"base_model", "etl", "evaluate", "grpo", "register", "retrieve", "sft"} - {step}
    assert fingerprint.of_step(step) not in {fingerprint.of_step(other) for other in others}

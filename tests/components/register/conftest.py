"""What register is given, with a real tiny model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.register.config import RegisterConfig
from components.shared.prompting.settings import ServingConfig


@pytest.fixture
def config(tracking_uri: str) -> RegisterConfig:
    return RegisterConfig(tracking_uri=tracking_uri, serving=ServingConfig(max_new_tokens=4, dtype="float32"))


@pytest.fixture
def inputs(tiny_model_folder: Path, served_folder: Path, make_report, tmp_path: Path) -> dict[str, Any]:
    report = tmp_path / "report.json"
    data = {"data": "s3://logs/may", "data_fingerprint": "f00d"}
    lineage = {"run_key": "run-1", "git_commit": "abc", "rows": {"n": 3}, **data}
    report.write_text(make_report(lineage=lineage).to_json())
    (tmp_path / "users").write_bytes(b"a table")
    files = {"report": report, "users": tmp_path / "users", "html": tmp_path / "info.html"}
    return {"model": tiny_model_folder, "served": served_folder, **files}


@pytest.fixture
def of_run(inputs, make_report, tmp_path: Path) -> Callable[[Any], dict[str, Any]]:
    """The inputs with a report of another lineage."""

    def make(lineage: Any) -> dict[str, Any]:
        report = tmp_path / "other.json"
        report.write_text(make_report(lineage=lineage).to_json())
        return {**inputs, "report": report}

    return make

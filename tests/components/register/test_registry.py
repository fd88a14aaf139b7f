"""The same registry behind an MLflow server: versions are text there, and files travel by HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.register.config import RegisterConfig
from components.register.job import run, run_champion
from components.register.promote import promote, read_entries, rollback
from components.shared.tracking.mlflow_client import connect
from tests.components.shared.tracking.mlflow_server import serving

MODEL = "recllm-r1"


@pytest.fixture
def server(tracking_uri: str, tmp_path: Path) -> Iterator[str]:
    with serving(tracking_uri, tmp_path) as uri:
        yield uri


@pytest.mark.slow
def test_register_promote_and_fetch_over_http(
    server, tiny_model_folder, served_folder, make_report, tmp_path
) -> None:
    config = RegisterConfig(tracking_uri=server)
    report = tmp_path / "report.json"
    (tmp_path / "users").write_bytes(b"a table")
    for key in ("run-1", "run-1", "run-2"):
        report.write_text(make_report(lineage={"run_key": key}).to_json())
        inputs = {"model": tiny_model_folder, "report": report, "html": tmp_path / "info.html"}
        inputs |= {"served": served_folder, "users": tmp_path / "users"}
        version = run(config, **inputs)
    assert version == "2"
    promote(server, MODEL, "1")
    promote(server, MODEL)
    assert rollback(server, MODEL).version == "1"
    entries = read_entries(connect(server), MODEL)
    assert [entry.promotion.version for entry in entries if entry.done] == ["1", "2", "1"]
    run_champion(config, "1", tmp_path / "champion")
    for path in tiny_model_folder.iterdir():
        assert (tmp_path / "champion" / path.name).read_bytes() == path.read_bytes()

"""The same registry behind an MLflow server: versions are text there, and files travel by HTTP."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.register.config import RegisterConfig
from components.register.job import run, run_champion
from components.register.promote import promote, read_entries, rollback
from components.shared.tracking.mlflow_client import connect

MODEL = "recllm-r1"


def answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def server(tracking_uri: str, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", tracking_uri, "--artifacts-destination", str(tmp_path / "artifacts")]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path, start_new_session=True
        )
    try:
        uri = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while not answers(uri):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the MLflow server did not start:\n{(tmp_path / 'server.log').read_text()}")
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@pytest.mark.slow
def test_register_promote_and_fetch_over_http(server, tiny_model_folder, make_report, tmp_path) -> None:
    config = RegisterConfig(tracking_uri=server)
    report = tmp_path / "report.json"
    report.write_text(make_report().to_json())
    for key in ("run-1", "run-1", "run-2"):
        inputs = {"model": tiny_model_folder, "report": report, "version_info": tmp_path / "info"}
        version = run(config, **inputs, lineage={"run_key": key})
    assert version == "2"
    assert run_champion(config, tmp_path / "champion") is None
    promote(server, MODEL, "1")
    promote(server, MODEL)
    assert rollback(server, MODEL).version == "1"
    entries = read_entries(connect(server), MODEL)
    assert [entry.promotion.version for entry in entries if entry.done] == ["1", "2", "1"]
    assert run_champion(config, tmp_path / "champion") == "1"
    for path in tiny_model_folder.iterdir():
        assert (tmp_path / "champion" / path.name).read_bytes() == path.read_bytes()

"""A real MLflow server for tests."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest


@contextlib.contextmanager
def serving(
    database: str,
    folder: Path,
    artifacts: str = "",
    environment: Mapping[str, str] | None = None,
    port: int = 0,
) -> Iterator[str]:
    """Serve the registry in `database` (a URI), artifacts in `folder` or at a URI; yield the address."""
    port = _free_port(port)
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", database]
    command += ["--artifacts-destination", artifacts or str(folder / "artifacts")]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    try:
        uri = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while not _answers(uri):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the MLflow server did not start:\n{(folder / 'server.log').read_text()}")
            time.sleep(0.2)
        yield uri
    finally:
        with contextlib.suppress(ProcessLookupError):  # it did not start
            os.killpg(process.pid, signal.SIGKILL)  # a polite end waits for idle connections
        process.wait(timeout=30)


def _free_port(port: int) -> int:
    """Return `port` once it is free, or any free one if it is 0."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with socket.create_server(("127.0.0.1", port)) as free:
                return int(free.getsockname()[1])
        except OSError:  # the workers of a server that was killed a moment ago may still hold it
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5):
            return True
    except OSError:
        return False

"""A real PostgreSQL server for tests."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Run a server with an empty database; yield its URI. Skips the test where PostgreSQL is missing."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), shutil.which("initdb")]  # Debian's first
    if not (initdb := next((program for program in found if program), None)):
        pytest.skip("no PostgreSQL (initdb) on this machine")
    binaries, folder = Path(initdb).parent, tempfile.mkdtemp()
    somebody: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        somebody = {"user": "nobody", "extra_groups": []}
        shutil.chown(folder, "nobody")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **somebody}
    initialise = [str(initdb), "-D", f"{folder}/data", "-U", "mlflow", "--auth=trust", "-E", "UTF8"]
    subprocess.run(initialise, check=True, **options)
    settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
    command = [str(binaries / "postgres"), "-D", f"{folder}/data", "-p", str(port)]
    server = subprocess.Popen([*command, *(f"-c{setting}" for setting in settings)], **options)
    try:
        address = ["-h", "127.0.0.1", "-p", str(port), "-U", "mlflow"]
        deadline = time.monotonic() + 60
        while subprocess.run([str(binaries / "pg_isready"), "-q", *address], check=False).returncode:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail("PostgreSQL did not start")
            time.sleep(0.1)
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # without waiting for its clients
        server.wait()
        shutil.rmtree(folder)

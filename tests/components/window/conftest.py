"""A configuration, and servers that answer as a cluster's do."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.window.config import ModelSource, WindowConfig
from tests.components.shared.tracking import mlflow_server


@pytest.fixture
def config(tracking_uri: str) -> WindowConfig:
    return WindowConfig(
        profile="profiles/tiny.yaml",
        base_model=ModelSource(source="bundled:smollm2-135m", version="0.1.2"),
        encoder=ModelSource(source="bundled:all-minilm-l6-v2", version="0.1.0"),
        lineage={"prompt_version": "1"},
        settings="abc",
        tracking_uri=tracking_uri,
        model_name="recllm-r1",
        experiment="recllm-r1",
    )


@pytest.fixture
def answering() -> Iterator[Callable[..., str]]:
    """Return a function that starts a server with these answers (status, JSON) by path."""
    running = []

    def start(answers: dict[str, tuple[int, Any]]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, content = answers.get(self.path.partition("?")[0], (404, {}))
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_PUT = do_GET

            def log_message(self, *_: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def mlflow_uri(fresh_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(fresh_database.read_bytes())
    with mlflow_server.serving(f"sqlite:///{folder / 'mlflow.db'}", folder) as uri:
        yield uri

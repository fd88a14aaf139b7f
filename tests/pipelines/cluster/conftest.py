"""A small stand-in for the API server of Kubeflow Pipelines, for what its client does by itself."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

PAGE = 2
NO_LOG = {"error_message": "BadRequestError: Failed to read logs for run r", "error_details": ""}
"""What the API answers, with the status 200."""
KINDS = {
    "pipelines": ("pipelines", "pipeline_id"),
    "versions": ("pipeline_versions", "pipeline_version_id"),
    "experiments": ("experiments", "experiment_id"),
    "runs": ("runs", "run_id"),
    "recurringruns": ("recurringRuns", "recurring_run_id"),
}


class FakeKubeflow(ThreadingHTTPServer):
    """Holds what was created by kind; `requests` are the (method, path, query) of all."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stored: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.health: dict[str, Any] = {"tag_name": "2.17.0", "multi_user": False}
        self.page: tuple[int, dict[str, str], str] | None = None
        """Status, headers and body of every answer, in place of the API's."""
        self.dies_after = -1
        """Number of changing requests after which the client hears nothing more."""
        self.logs: dict[str, str] = {}
        self.headers: list[dict[str, str]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def changes(self) -> list[str]:
        return [f"{method} {path}" for method, path, _ in self.requests if method != "GET"]


class _Handler(BaseHTTPRequestHandler):
    server: FakeKubeflow

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def _handle(self, method: str) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.headers.append(dict(self.headers))
        if self.server.page:
            status, headers, text = self.server.page
            self._answer(status, text, headers)
            return
        if method != "GET" and self.server.dies_after == len(self.server.changes()):
            self.close_connection = True
            return
        path = re.sub(r"^/apis/v\w+/", "", url.path)
        self.server.requests.append((method, path, query))
        status, answer = self._api(method, path, query, body)
        self._answer(status, answer if isinstance(answer, str) else json.dumps(answer), {})

    def _answer(self, status: int, text: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def _api(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if path == "healthz":
            return 200, self.server.health
        if path.endswith("/log"):
            text = self.server.logs.get(path.split("/")[-2])
            return 200, text if text is not None else json.dumps(NO_LOG, separators=(",", ":"))
        if path == "pipelines/upload_version":
            kept = {name: query[name] for name in ("name", "display_name", "description")}
            return 200, self._create("versions", kept)
        parts = path.split("/")
        kind, identity = ("versions", "") if parts[-1] == "versions" else (parts[0], "".join(parts[1:2]))
        if method == "POST" and ":" not in identity:
            return 200, self._create(kind, json.loads(body))
        if identity:
            return self._one(method, kind, identity)
        found, start = self.server.stored[kind], int(query.get("page_token") or 0)
        rest = {"next_page_token": str(start + PAGE)} if start + PAGE < len(found) else {}
        return 200, {KINDS[kind][0]: found[start : start + PAGE], **rest}

    def _create(self, kind: str, entry: dict[str, Any]) -> dict[str, Any]:
        stored = self.server.stored[kind]
        entry[KINDS[kind][1]] = f"{kind}-{len(self.server.requests)}"
        if kind == "recurringruns":
            entry["status"] = "ENABLED" if entry.pop("mode") == "ENABLE" else "DISABLED"
        stored.append(entry)
        return entry

    def _one(self, method: str, kind: str, identity: str) -> tuple[int, Any]:
        identity, _, action = identity.partition(":")
        found = [one for one in self.server.stored[kind] if one[KINDS[kind][1]] == identity]
        if not found:
            return 404, {"error": "not found", "code": 5, "message": f"{kind} {identity} not found"}
        if method == "DELETE":
            self.server.stored[kind].remove(found[0])
        if action:
            found[0]["status"] = f"{action.upper()}D"
        return 200, found[0]


@pytest.fixture
def kubeflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubeflow]:
    """A running server, and no settings of a real one."""
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH", "KF_PIPELINES_UI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pipelines.cluster.client._NAMESPACE", Path("/nowhere"))  # tests may run in a pod
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    server = FakeKubeflow()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()

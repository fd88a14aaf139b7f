"""A run's end is posted to a webhook, and a webhook that fails is only logged."""

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from components.notify.job import tell


def task(name: str, state: str, start: str = "", end: str = "") -> dict[str, str]:
    return {"display_name": name, "state": state, "start_time": f"2026-{start}Z", "end_time": f"2026-{end}Z"}


TASKS = [
    task("recllm-r1-cq8tw", "RUNNING", "11-26T13:59:58", "0001-01-01T00:00:00"),
    task("exit-handler-1", "FAILED", "11-26T13:59:59", "11-26T14:30:02"),
    task("sft", "SUCCEEDED", "11-26T14:00:00", "11-26T14:20:00"),
    task("grpo", "FAILED", "11-26T14:21:00", "11-26T14:30:02"),  # a group ends in the same second
    task("executor", "FAILED", "11-26T14:22:00", "11-26T14:30:02"),
    task("grpo-driver", "FAILED", "11-26T14:21:00", "11-26T14:29:00"),
    task("grpo(0)", "FAILED", "11-26T14:21:00", "11-26T14:30:01"),
]
RUN = {"display_name": "recllm-r1 nightly", "run_details": {"task_details": TASKS}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Kubeflow Pipelines' API and a webhook in one; `posted` holds the bodies that the webhook got."""
    posted: list[Any] = []
    state = SimpleNamespace(posted=posted, status=200)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200 if self.path == "/apis/v2beta1/runs/run-1" else 404, RUN)

        def do_POST(self) -> None:
            posted.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.answer(state.status, {})

        def answer(self, status: int, content: Any) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: Any) -> None: ...

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    state.address = f"http://127.0.0.1:{running.server_port}"
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", state.address)
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example.org/")
    monkeypatch.setenv("RECLLM_NOTIFY_URL", f"{state.address}/hooks/secret")
    yield state
    running.shutdown()
    running.server_close()


def test_a_failure_names_its_step(server) -> None:
    tell("run-1", "FAILED")
    link = "https://kubeflow.example.org/#/runs/details/run-1"
    message = {
        "pipeline": "recllm-r1 nightly",
        "run_id": "run-1",
        "state": "FAILED",
        "failing_step": "grpo",
        "link": link,
        "text": f"recllm-r1 nightly run-1: FAILED in step grpo {link}",
    }
    assert server.posted == [("/hooks/secret", message)]


def test_a_success_names_none(server) -> None:
    tell("run-1", "COMPLETE")
    assert server.posted[0][1]["state"] == "COMPLETE"
    assert server.posted[0][1]["failing_step"] == ""


def test_the_webhook_is_told_although_the_api_is_silent(server, monkeypatch) -> None:
    monkeypatch.delenv("KF_PIPELINES_UI_ENDPOINT")
    tell("run-2", "FAILED")
    told = server.posted[0][1]
    assert (told["pipeline"], told["failing_step"], told["link"]) == ("", "", "")
    assert told["text"] == "run run-2: FAILED"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        pytest.param("{server}/hooks/secret", "the webhook refuses (HTTP 500)", id="refused"),
        pytest.param("http://127.0.0.1:9/hooks/secret", "cannot be reached (URLError)", id="unreachable"),
        pytest.param("hooks/secret", "cannot be reached (ValueError)", id="no address"),
        pytest.param("http://hooks/se cret", "cannot be reached (InvalidURL)", id="spaces"),
        pytest.param(None, "RECLLM_NOTIFY_URL is not set", id="unset"),
    ],
)
def test_a_webhook_that_fails_is_logged_without_its_address(
    server, monkeypatch, caplog, address: str | None, reason: str
) -> None:
    server.status = 500
    if address is None:
        monkeypatch.delenv("RECLLM_NOTIFY_URL")
    else:
        monkeypatch.setenv("RECLLM_NOTIFY_URL", address.format(server=server.address))
    with caplog.at_level(logging.INFO, logger="recllm.notify"):
        tell("run-1", "FAILED")
    assert reason in caplog.text
    assert "hooks" not in caplog.text and "cret" not in caplog.text

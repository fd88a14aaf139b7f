"""A registry that goes away at any call, versions that go away, full disks: nothing is half done."""

import http.client
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from components.register import packaging
from components.register import promote as promotions
from components.register.job import run, run_champion
from components.register.listing import history
from components.register.promote import promote, rollback
from components.shared.errors import ConfigError, OutputError
from components.shared.tracking.mlflow_client import connect
from components.shared.tracking.registry import aliases, ensure_model, versions
from tests.components.shared.tracking.mlflow_server import serving

MODEL = "recllm-r1"


class Proxy(ThreadingHTTPServer):
    """Stands before a server; from the answer to the request number `last` on, it cuts connections.

    That request is carried out: of one that is lost the server knows as little as of the next, never sent.
    """

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(server).netloc
        self.lock = threading.Lock()
        self.begin(0)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def begin(self, last: int) -> None:
        """Count from zero; 0 = answer everything."""
        self.requests, self.last = 0, last


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.requests += 1
            number, last = self.server.requests, self.server.last
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if last and number > last:
            return
        backend = http.client.HTTPConnection(self.server.target, timeout=60)
        headers = {name: text for name, text in self.headers.items() if name.lower() != "host"}
        backend.request(self.command, self.path, body, headers)
        answer = backend.getresponse()
        content = answer.read()
        backend.close()
        if number == last:
            return
        self.send_response(answer.status)
        for name in ("Content-Type", "Content-Disposition"):
            if answer.getheader(name):
                self.send_header(name, answer.getheader(name))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(fresh_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(fresh_database, folder / "mlflow.db")
    with serving(f"sqlite:///{folder / 'mlflow.db'}", folder) as uri:
        yield uri


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    proxy = Proxy(server)
    threading.Thread(target=proxy.serve_forever, args=(0.01,), daemon=True).start()
    yield proxy
    proxy.shutdown()
    proxy.server_close()


def calls_of(proxy: Proxy, command: Callable[[], object]) -> int:
    proxy.begin(0)
    command()
    return proxy.requests


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packaging, which asks no registry, gives two files instead of a hundred in seconds."""
    built = tmp_path / "built"
    built.mkdir()
    for name in ("MLmodel", "model.py"):
        (built / name).write_text("flavors: {}\n")
    monkeypatch.setattr(packaging, "build", lambda *_: built)


@pytest.mark.slow
def test_a_registry_away_at_any_call_of_register(proxy, server, config, inputs, of_run, packed) -> None:
    def attempt(number: int, uri: str) -> str:
        own = replace(config, tracking_uri=uri, model_name=f"model-{number}", experiment=f"runs-{number}")
        return run(own, **of_run({"run_key": f"key-{number}"}))

    calls = calls_of(proxy, lambda: attempt(0, proxy.uri))
    assert calls > 20
    client = connect(server)
    for number in range(1, calls + 1):
        proxy.begin(number)
        with pytest.raises(ConfigError, match=r"^http://127|no answer from http"):
            attempt(number, proxy.uri)
        found = versions(client, f"model-{number}") if number > 2 else []
        assert all(version.tags["gate"] == "passed" for version in found), "a version is whole"
        proxy.begin(0)
        assert attempt(number, proxy.uri) == "1", f"call {number}"
        assert len(versions(client, f"model-{number}")) == 1
        assert aliases(client, f"model-{number}") == {"challenger": "1"}
        experiment = client.get_experiment_by_name(f"runs-{number}").experiment_id
        assert [one.info.status for one in client.search_runs([experiment])] == ["FINISHED"]
        (logged,) = client.search_logged_models([experiment])
        assert str(logged.status) == "READY"


def versions_of(client: MlflowClient, model: str) -> None:
    """Make versions 1 to 3 of `model`; 1 was champion, 2 is."""
    ensure_model(client, model)
    for _ in range(3):
        client.create_model_version(model, "s3://nowhere/model", tags={"gate": "passed"})
    for version in ("1", "2"):
        promote(client.tracking_uri, model, version)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "champion", "previous"),
    [
        pytest.param(lambda uri, model: promote(uri, model, "3"), "3", "2", id="promote"),
        pytest.param(rollback, "1", "2", id="rollback"),
    ],
)
def test_a_registry_away_at_any_call_of(command, champion, previous, proxy, server, request) -> None:
    client, kind = connect(server), request.node.callspec.id
    versions_of(client, f"{kind}-0")
    calls = calls_of(proxy, lambda: command(proxy.uri, f"{kind}-0"))
    for number in range(1, calls + 1):
        versions_of(client, model := f"{kind}-{number}")
        proxy.begin(number)
        with pytest.raises(ConfigError):
            command(proxy.uri, model)
        assert aliases(client, model)["champion"] in ("2", champion), "never without a champion"
        promotions._settle(client, model)  # as the next command does, in any thread of this process
        moved = aliases(client, model)
        assert moved in ({"champion": champion, "previous": previous}, {"champion": "2", "previous": "1"})
        if moved["champion"] == "2":
            command(server, model)
        assert aliases(client, model) == {"champion": champion, "previous": previous}
        changes = [(change.version, change.replaced) for change in history(server, model)]
        assert changes == [("1", None), ("2", "1"), (champion, "2")], f"call {number}"


def test_a_version_deleted_before_its_promotion_is_named_and_can_be_registered_again(config, inputs) -> None:
    assert run(config, **inputs) == "1"
    client = connect(config.tracking_uri)
    client.delete_model_version(MODEL, "1")
    for version in ("1", "challenger"):
        with pytest.raises(ConfigError, match=f"no version or alias '{version}'; it has none"):
            promote(config.tracking_uri, MODEL, version)
    assert run(config, **inputs) == "2"
    assert promote(config.tracking_uri, MODEL).version == "2"


def test_a_champion_deleted_after_the_window_saw_it_is_named(config, inputs, tmp_path: Path) -> None:
    run(config, **inputs)
    promote(config.tracking_uri, MODEL)
    connect(config.tracking_uri).delete_model_version(MODEL, "1")
    with pytest.raises(ConfigError, match=r"MLflow fails: .*version=1"):
        run_champion(config, "1", tmp_path / "champion")
    assert not (tmp_path / "champion").exists()


def test_a_full_disk_registers_nothing_and_the_same_command_finishes(
    config, inputs, small_disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(tempfile, "tempdir", str(small_disk))
        with pytest.raises(OutputError, match="run key 'run-1' is not written: a disk is full"):
            run(config, **inputs)
    assert versions(connect(config.tracking_uri), MODEL) == []
    assert not inputs["html"].exists()
    assert run(config, **inputs) == "1"

"""What servers, proxies and databases refuse is never read as a registry without a champion."""

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, NoCredentialsError
from mlflow.exceptions import MlflowException

from components.register.config import RegisterConfig
from components.register.job import run, run_champion
from components.register.promote import promote, rollback
from components.shared.errors import ConfigError
from components.shared.tracking import failures, mlflow_client, registry

MODEL = "recllm-r1"
Answer = tuple[int, str]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Start a server that answers everything with a status and a body, some paths with others."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    servers = []

    def start(status: int, body: str, others: dict[str, Answer] | None = None) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.partition("?")[0]
                answer = next((a for end, a in (others or {}).items() if path.endswith(end)), (status, body))
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1].encode())

            do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


PAGE = "<html>" + "sign in " * 200
ABSENT = json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"})
REFUSALS = [
    pytest.param(401, PAGE, r"HTTP status 401: .* …; give credentials .*MLFLOW_TRACKING_USERNAME", id="401"),
    pytest.param(401, '{"message": "Unauthorized"}', r"HTTP status 401: .*TRACKING_TOKEN", id="gateway"),
    pytest.param(
        403,
        '{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}',
        r"HTTP status 403: PERMISSION_DENIED.*; these credentials may not",
        id="403",
    ),
    pytest.param(403, '{"error": "rbac"}', "HTTP status 403: .*; these credentials may not", id="proxy 403"),
    pytest.param(403, "Invalid Host header - rebinding", r"403: .*; .*--allowed-hosts", id="host"),
    pytest.param(404, "no route", "HTTP status 404: .*; is this the address of an MLflow server", id="404"),
    pytest.param(404, '{"error_code": 404}', "HTTP status 404: .*; is this the address", id="proxy's 404"),
    pytest.param(413, "large", "HTTP status 413: .*; .*files of this size", id="413"),
    pytest.param(429, "slow down", "HTTP status 429: .*; it has too many requests", id="429"),
    pytest.param(500, '{"message": "x"}', "HTTP status 500: .*; the server, or a proxy", id="500"),
    pytest.param(502, "Bad Gateway", "HTTP status 502: .*; the server, or a proxy", id="502"),
    pytest.param(503, '{"error_code": "X"}', "HTTP status 503: .*; the server, or a proxy", id="503"),
    pytest.param(200, PAGE, "MLflow fails: .*; what answers there is no MLflow server", id="login page"),
    pytest.param(200, "{}", "it answers with ''", id="an empty answer"),
    pytest.param(401, ABSENT, r"HTTP status 401: .*; give credentials", id="401 in words of absence"),
    pytest.param(
        403, ABSENT, r"HTTP status 403: .*; these credentials may not", id="403 in words of absence"
    ),
    pytest.param(
        200,
        '{"registered_model": 7}',
        "MLflow fails: .*; what answers there is no MLflow",
        id="another shape",
    ),
]


@pytest.mark.parametrize(("status", "body", "message"), REFUSALS)
def test_a_refusal_is_no_registry_without_a_champion(answering, status, body, message) -> None:
    uri = answering(status, body)
    for command in (promote, rollback):
        with pytest.raises(ConfigError, match=message):
            command(uri, MODEL)
    client = mlflow_client.connect(uri)
    with pytest.raises(ConfigError, match=message), failures.readable_errors(uri):
        registry.aliases(client, MODEL)


def test_a_search_that_hides_the_model_is_no_absence(answering) -> None:
    """MLflow's basic-auth leaves out of a search what one may not read."""
    refusal = json.dumps({"error_code": "PERMISSION_DENIED", "message": "Permission denied"})
    uri = answering(200, "{}", {"registered-models/get": (403, refusal)})
    with pytest.raises(ConfigError, match="HTTP status 403"):
        rollback(uri, MODEL)


def test_absent_is_what_the_server_says_is_absent(answering) -> None:
    uri = answering(404, ABSENT)
    assert registry.aliases(mlflow_client.connect(uri), MODEL) == {}
    with pytest.raises(ConfigError, match="there is no registered model 'recllm-r1'"):
        promote(uri, MODEL)


@pytest.mark.parametrize("status", [401, 403, 502])
@pytest.mark.parametrize("artifacts", ["mlflow-artifacts:/1/model", "s3://bucket/model"])
def test_files_that_a_server_refuses_are_no_corrupt_version(
    answering, tmp_path, monkeypatch, status, artifacts
) -> None:
    others = {
        "registered-models/get": (200, json.dumps({"registered_model": {"name": MODEL}})),
        "model-versions/get-download-uri": (200, json.dumps({"artifact_uri": artifacts})),
    }
    uri = answering(status, "refused", others)
    store = {"MLFLOW_S3_ENDPOINT_URL": uri, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in {**store, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    in_store = ".*object storage" if artifacts.startswith("s3") else ""
    unread = f"its files cannot be read from {artifacts} .HTTP status {status}: {in_store}"
    with pytest.raises(ConfigError, match=unread) as refused:
        run_champion(RegisterConfig(tracking_uri=uri), "3", tmp_path / "champion")
    assert "roll back" not in str(refused.value)
    assert not (tmp_path / "champion").exists()


def test_an_upload_that_a_proxy_refuses_registers_nothing(
    answering, served_folder, make_report, tmp_path
) -> None:
    run_info = {"run_id": "r", "run_uuid": "r", "artifact_uri": "mlflow-artifacts:/1/r/artifacts"}
    others = {
        "registered-models/get": (200, json.dumps({"registered_model": {"name": MODEL}})),
        "experiments/get-by-name": (200, json.dumps({"experiment": {"experiment_id": "1"}})),
        "runs/create": (200, json.dumps({"run": {"info": run_info}})),
        "runs/get": (200, json.dumps({"run": {"info": run_info}})),
        "report.json": (413, "Request Entity Too Large"),
    }
    uri = answering(200, "{}", others)
    model, report = tmp_path / "model", tmp_path / "report.json"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        (model / name).write_text("{}")
    report.write_text(make_report().to_json())
    inputs = {
        "model": model,
        "served": served_folder,
        "report": report,
        "users": report,
        "html": tmp_path / "page.html",
    }
    with pytest.raises(ConfigError, match=r"HTTP status 413: .*; .*files of this size"):
        run(RegisterConfig(tracking_uri=uri), **inputs)
    assert not (tmp_path / "page.html").exists()


def _newer(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("update alembic_version set version_num = 'f00'")


@pytest.mark.parametrize(
    "broken", [lambda database: database.write_bytes(b"no database " * 99), _newer], ids=["garbage", "newer"]
)
def test_a_database_that_cannot_be_read_is_named(fresh_database, tmp_path, broken) -> None:
    database = tmp_path / "mlflow.db"
    shutil.copyfile(fresh_database, database)
    broken(database)
    with pytest.raises(ConfigError, match=r"mlflow\.db: MLflow fails: .*; is the database whole"):
        rollback(f"sqlite:///{database}", MODEL)


def test_a_password_in_the_address_is_not_shown(answering) -> None:
    uri = answering(401, "no").replace("//", "//me:secret@")
    with pytest.raises(ConfigError, match="http://127") as refused:
        rollback(uri, MODEL)
    assert "secret" not in str(refused.value)
    for uri in ("postgresql://me:secret@host/mlflow", "http://me:secret@127.0.0.1:9"):
        with pytest.raises(ConfigError, match=r"host/mlflow|no answer") as refused:
            rollback(uri, MODEL)
        assert "secret" not in str(refused.value)


def test_words_of_mlflow_are_shown_without_passwords() -> None:
    error = MlflowException("API request to http://me:secret@127.0.0.1:9/api failed")
    assert "http://127.0.0.1:9/api" in failures.describe(error)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(
            ClientError(
                {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "PutObject"
            ),
            r"HTTP status 403: .*AccessDenied.*; the artifacts lie in object storage",
            id="denied",
        ),
        pytest.param(
            ClientError({"ResponseMetadata": {"HTTPStatusCode": 503}}, "PutObject"),
            "HTTP status 503: .*; the object storage of the artifacts is in trouble",
            id="in trouble",
        ),
        pytest.param(NoCredentialsError(), "Unable to locate credentials; the artifacts lie", id="no keys"),
        pytest.param(
            MlflowException("1 failed: ##### f #####\nUnable to locate credentials"),
            "the artifacts lie in object storage",
            id="no keys, in MLflow's words",
        ),
    ],
)
def test_the_store_of_the_artifacts_has_its_own_hint(error: Exception, message: str) -> None:
    with pytest.raises(ConfigError, match=message), failures.readable_errors("http://x"):
        raise error


def test_errors_of_the_project_itself_keep_their_traceback() -> None:
    with pytest.raises(KeyError), failures.readable_errors("http://x"):
        raise KeyError("a bug")

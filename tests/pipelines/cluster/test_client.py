"""The client: credentials, the errors of a refusal, and every page of a list."""

from pathlib import Path
from typing import Any

import pytest

from components.shared.errors import ConfigError
from pipelines.cluster.client import COOKIE, ClusterError, connect

HTML = {"Content-Type": "text/html; charset=utf-8"}


@pytest.mark.parametrize(
    ("page", "message"),
    [
        pytest.param((401, {}, "{}"), "knows nobody by these credentials", id="expired"),
        pytest.param(
            (403, {}, '{"message": "no right to list runs"}'), "403: no right to list runs", id="forbidden"
        ),
        pytest.param((302, {"Location": "/dex/auth"}, ""), "as for signing in", id="sent to sign in"),
        pytest.param((200, HTML, "<html>Log in</html>"), "as for signing in", id="a login page"),
        pytest.param((200, {}, "hello"), "it answers no JSON", id="something else"),
        pytest.param((502, HTML, "Bad Gateway"), "refuses (502)", id="a gateway's page"),
    ],
)
def test_what_the_api_refuses_is_one_sentence_without_the_token(
    page: Any, message: str, kubeflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    kubeflow.page = page
    with pytest.raises(ClusterError) as error:
        connect(kubeflow.endpoint, "")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert "s3cret" not in str(error.value)
    assert kubeflow.headers[0]["Authorization"] == "Bearer s3cret"


def test_the_credentials_files_are_read_anew_for_each_request(
    kubeflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie = tmp_path / "cookie"
    monkeypatch.setenv(COOKIE, str(cookie))
    for value in ("authservice_session=1", "authservice_session=2"):
        cookie.write_text(value)
        connect(kubeflow.endpoint, "")
        assert kubeflow.headers[-1]["Cookie"] == value


@pytest.mark.parametrize("variable", [COOKIE, "KF_PIPELINES_SA_TOKEN_PATH"])
@pytest.mark.parametrize(
    ("content", "message"), [(b"\xba\x00", "is not text"), (b"one\ntwo\n", "holds more than one line")]
)
def test_a_file_that_holds_no_credential_is_named(
    variable: str,
    content: bytes,
    message: str,
    kubeflow: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_bytes(content)
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=f"{variable}: .*file {message}"):
        connect(kubeflow.endpoint, "")


def test_every_page_is_read_and_only_many_users_have_namespaces(kubeflow: Any) -> None:
    kubeflow.stored["runs"] = [{"run_id": str(number)} for number in range(5)]
    client = connect(kubeflow.endpoint, "mine")
    assert [run["run_id"] for run in client.pages("runs", "runs")] == list("01234")
    assert "namespace" not in kubeflow.requests[-1][2]
    kubeflow.health["multi_user"] = True
    list(connect(kubeflow.endpoint, "mine").pages("runs", "runs"))
    assert kubeflow.requests[-1][2]["namespace"] == "mine"
    with pytest.raises(ConfigError, match="give --namespace"):
        connect(kubeflow.endpoint, "")


def test_an_unreachable_or_old_backend_is_refused(kubeflow: Any) -> None:
    with pytest.raises(ClusterError, match=r"no answer from Kubeflow Pipelines at http://127.0.0.1:9"):
        connect("http://127.0.0.1:9", "")
    with pytest.raises(ConfigError, match="where is Kubeflow Pipelines"):
        connect("", "")
    with pytest.raises(ConfigError, match=r"write http\(s\)"):
        connect("ftp://host", "")
    kubeflow.health["tag_name"] = "2.16.0"
    with pytest.raises(ConfigError, match=r"2\.16\.0 .* is too old"):
        connect(kubeflow.endpoint, "")

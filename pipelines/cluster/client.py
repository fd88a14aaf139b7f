"""Kubeflow Pipelines' API over HTTP.

kfp's own client takes a login page for an empty answer, ends a schedule's running run with the schedule,
waits for ever for a cancelled run, and reads no logs.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from components.shared import kubeflow
from components.shared.errors import ConfigError, UserError

COOKIE = "RECLLM_KFP_COOKIE_PATH"
"""Environment variable with the path of a file that holds a browser session's cookie."""
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_CREDENTIALS = (
    f"name a file with a valid token in {kubeflow.TOKEN}, or one with the browser's cookie in {COOKIE}, "
    "or forward a port: kubectl -n kubeflow port-forward svc/ml-pipeline 8888"
)


class ClusterError(UserError):
    """Kubeflow Pipelines refuses or does not answer; `status` is HTTP's, 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """The API at `endpoint`; credentials are read anew for each request, since they expire."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.namespace = "kubeflow"
        """Where the pods are."""
        self.owner: dict[str, str] = {}
        """The namespace as the API wants it named: not at all where all users share one."""

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON at `path`."""
        return self._json(self._request("GET", f"v2beta1/{path}", params=query))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return what creating `body` at `path` answers."""
        return self._json(self._request("POST", f"v2beta1/{path}", json=body))

    def upload(self, path: str, package: Path, **query: str) -> Any:
        """Return what uploading the compiled pipeline `package` answers."""
        with package.open("rb") as file:
            files = {"uploadfile": (package.name, file)}
            return self._json(self._request("POST", f"v2beta1/{path}", params=query, files=files))

    def delete(self, path: str, **query: str) -> None:
        """Delete what is at `path`."""
        self._request("DELETE", f"v2beta1/{path}", params=query)

    def log(self, run_id: str, node: str) -> str:
        """Return the log of Argo's `node`, also after its pod is gone.

        Raises: ClusterError with the status 404: there is none.
        """
        answer = self._request("GET", f"v1alpha1/runs/{run_id}/nodes/{node}/log")
        if answer.text.startswith('{"error_message":'):  # with the status 200
            raise ClusterError(_said(answer), 404)
        return answer.text

    def pages(self, path: str, key: str, **query: Any) -> Iterator[Any]:
        """Yield the entries called `key` of every page at `path`, those of the user's namespace."""
        token = ""
        while True:
            page = self.get(path, **query, **self.owner, page_token=token)
            yield from page.get(key, [])
            if not (token := page.get("next_page_token", "")):
                return

    def link(self, page: str) -> str:
        """Return the address of a page of the UI."""
        return kubeflow.link(page, otherwise=self.endpoint)

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        try:
            answer = requests.request(
                method,
                f"{self.endpoint}/apis/{path}",
                headers=_credentials(),
                timeout=(5, 60),
                allow_redirects=False,
                **options,
            )
        except requests.RequestException as error:
            reason = type(error).__name__  # its text is long and may hold what was sent
            raise ClusterError(
                f"no answer from Kubeflow Pipelines at {self.endpoint} ({reason}); is the address right, and "
                "can it be reached from here? A port: kubectl -n kubeflow port-forward svc/ml-pipeline 8888"
            ) from error
        _refuse(answer)
        return answer

    def _json(self, answer: requests.Response) -> Any:
        try:
            return answer.json()
        except ValueError as error:
            raise ClusterError(f"{self.endpoint} is not Kubeflow Pipelines: it answers no JSON") from error


def connect(endpoint: str, namespace: str) -> Client:
    """Return the client of the API at `endpoint`, which has answered.

    `endpoint` "" is the one known here; `namespace` is the user's, or where all pods are, and "" that of
    this pod, or kubeflow. Raises: ConfigError, ClusterError.
    """
    from components.window import cluster

    address = (endpoint or kubeflow.endpoint()).rstrip("/")
    if not address:
        raise ConfigError("where is Kubeflow Pipelines? Give --endpoint, or set KF_PIPELINES_ENDPOINT")
    if "://" not in address:
        address = f"https://{address}"  # as kfp's own client does
    if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).hostname:
        raise ConfigError(f"--endpoint {address}: write http(s)://HOST[:PORT][/PATH]")
    client = Client(address)
    health = client.get("healthz")
    cluster.require(str(health.get("tag_name", "")), address)
    own = _NAMESPACE.read_text(encoding="utf-8").strip() if _NAMESPACE.is_file() else ""
    client.namespace = namespace or own or client.namespace
    if health.get("multi_user"):
        if not namespace and not own:
            raise ConfigError(f"{address} serves many users: give --namespace, that of your profile")
        client.owner = {"namespace": client.namespace}
    return client


def _credentials() -> dict[str, str]:
    headers = {}
    if token := kubeflow.token():
        headers["Authorization"] = f"Bearer {token}"
    if path := os.environ.get(COOKIE):
        headers["Cookie"] = kubeflow.credential(COOKIE, path)
    return headers


def _refuse(answer: requests.Response) -> None:
    """Raise ClusterError if `answer` is none that was asked for."""
    at, status = answer.url.partition("/apis/")[0], answer.status_code
    is_page = status < 500 and "html" in answer.headers.get("Content-Type", "")
    if status == 401:
        fault = f"knows nobody by these credentials (401: expired?); {_CREDENTIALS}"
    elif is_page or answer.is_redirect:
        fault = f"answers with a web page, as for signing in; {_CREDENTIALS}"
    elif status == 403:
        fault = f"forbids it (403: {_said(answer)}); ask for the right, or give another --namespace"
    elif not answer.ok:
        fault = f"refuses ({status}): {_said(answer)}"
    else:
        return
    raise ClusterError(f"{at} {fault}", status)


def _said(answer: requests.Response) -> str:
    """Return the first line of what the API says."""
    try:
        body = answer.json()
        text = body.get("message") or body.get("error_message") or body.get("error") or answer.reason
    except (ValueError, AttributeError):
        text = answer.text or answer.reason
    return str(text).strip().partition("\n")[0][:400]

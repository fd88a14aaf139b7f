"""Kubeflow Pipelines' API, as a pod or a user's machine reaches it."""

import json
import os
import re
import urllib.request
from pathlib import Path
from typing import Any

from components.shared.errors import ConfigError

TOKEN = "KF_PIPELINES_SA_TOKEN_PATH"
"""Environment variable with the path of the token's file, as kfp's own client reads it."""
_UI = "KF_PIPELINES_UI_ENDPOINT"  # as kfp's own client reads it
_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"  # where a multi-user Kubeflow puts it
_ENGINE = re.compile(r"executor|root|.*\(\d+\)|.*-driver|.*\.onExit|exit-handler-\d+|condition-\d+")


def in_pod() -> bool:
    """Return whether this process runs in a pod."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def endpoint() -> str:
    """Return the address of Kubeflow Pipelines, if it is known here; else ""."""
    if given := os.environ.get("KF_PIPELINES_ENDPOINT"):  # what kfp's own client reads
        return given.rstrip("/")
    if host := os.environ.get("ML_PIPELINE_SERVICE_HOST"):
        return f"http://{host}:{os.environ.get('ML_PIPELINE_SERVICE_PORT', '8888')}"
    return "http://ml-pipeline.kubeflow:8888" if "KFP_POD_NAME" in os.environ else ""


def link(page: str, otherwise: str = "") -> str:
    """Return the address of a UI page, by default at `otherwise`; "" if unknown."""
    ui = os.environ.get(_UI, otherwise).rstrip("/")
    return f"{ui}/#/{page}" if ui else ""


def token() -> str:
    """Return the API's token; "" without one. Raises ConfigError: unreadable."""
    given = os.environ.get(TOKEN)
    return credential(TOKEN, given or _TOKEN) if given or Path(_TOKEN).is_file() else ""


def credential(variable: str, path: str) -> str:
    """Return the line in the file at `path`. Raises ConfigError naming `variable`."""
    try:
        line = Path(path).read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(f"{variable}: {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{variable}: {path} is not text") from error
    if not line.isprintable():  # several could not be sent, and the library that refuses them names no file
        raise ConfigError(f"{variable}: {path} holds more than one line")
    return line


def get(path: str) -> Any:
    """Return the JSON at `path` of the API. Raises OSError or ValueError: there is none."""
    bearer = token()
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    request = urllib.request.Request(f"{endpoint()}/apis/v2beta1/{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def kubernetes() -> Any:
    """Return Kubernetes' client for this pod's cluster, or for kubectl's current one.

    Raises: what its configuration raises without either.
    """
    from kubernetes import client, config

    (config.load_incluster_config if in_pod() else config.load_kube_config)()
    settings = client.Configuration.get_default_copy()
    settings.retries = False
    return client.ApiClient(settings)


def tasks(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tasks of `run`, the engine's own among them."""
    details = run.get("run_details", {}).get("task_details", [])
    # A step whose outputs may be reused has a second entry, for the cache, without a name or a state.
    return [task for task in details if "display_name" in task]


def steps(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tasks of `run` that are steps, in the order they began."""
    named = tasks(run)
    workflows = {re.sub(r"-\d+$", "", child["pod_name"]) for task in named for child in _children(task)}
    own = [
        task
        for task in named
        if (name := task["display_name"]) not in workflows and not _ENGINE.fullmatch(name)
    ]
    return sorted(own, key=lambda task: task.get("start_time") or "~")


def _children(task: dict[str, Any]) -> list[dict[str, Any]]:
    return [child for child in task.get("child_tasks", []) if child.get("pod_name")]


def failing_step(run: dict[str, Any]) -> str:
    """Return the step of the API's `run` that failed first; "" if none has."""
    # Groups around it begin before it, and end after it.
    failed = [task for task in reversed(steps(run)) if task.get("state") == "FAILED"]
    return min(failed, key=lambda task: task.get("end_time", ""))["display_name"] if failed else ""

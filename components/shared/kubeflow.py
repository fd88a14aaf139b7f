"""Kubeflow Pipelines' API, as a pod or a user's machine reaches it."""

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")  # where a multi-user Kubeflow puts it


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


def get(path: str) -> Any:
    """Return the JSON at `path` of the API. Raises OSError or ValueError: there is none."""
    headers = {"Authorization": f"Bearer {_TOKEN.read_text().strip()}"} if _TOKEN.is_file() else {}
    request = urllib.request.Request(f"{endpoint()}/apis/v2beta1/{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)
